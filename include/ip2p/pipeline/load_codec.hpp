#pragma once

/// \file
/// Loads the codec that a model's files name.

#include <string>

#include "ip2p/codec/any_codec.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/codec/tiny_autoencoder.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/load.hpp"

namespace ip2p {

/// `use.operator()<Codec>()` for the class that the `_class_name` of the codec's configuration names:
/// `TinyAutoencoder`, `DcAutoencoder`, or else `KlAutoencoder`, which refuses other names when it is loaded.
template <class Use>
auto with_codec_of(const ModelFiles& files, const Use& use) {
  const std::string name = files.config("vae").value("_class_name", "");
  if (name == "AutoencoderTiny") return use.template operator()<TinyAutoencoder>();
  if (name == "AutoencoderDC") return use.template operator()<DcAutoencoder>();
  return use.template operator()<KlAutoencoder>();
}

/// The codec that the files name. \throws Error as `load`
inline AnyCodec load_codec(const ModelFiles& files, const LoadOptions& options = {}) {
  return with_codec_of(files, [&]<class Codec>() { return AnyCodec(load<Codec>(files, options)); });
}

}  // namespace ip2p
