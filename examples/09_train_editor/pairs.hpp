#pragma once

/// \file
/// The training data: pairs encoded at every use, or once.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ip2p/codec/any_codec.hpp"
#include "ip2p/data/any_picture_pairs.hpp"
#include "ip2p/data/cached_pairs.hpp"
#include "ip2p/data/encoded_pairs.hpp"
#include "options.hpp"

namespace train_editor {

/// A `PairSource` over pictures, with or without --cache.
class Pairs {
 public:
  /// \param pictures kept by reference  \param codec_checksum names the codec in the cache
  Pairs(const ip2p::AnyPicturePairs& pictures, const ip2p::AnyCodec& codec, const std::string& codec_checksum,
        const Options& o);
  ~Pairs();

  [[nodiscard]] std::int64_t size() const { return size_; }
  [[nodiscard]] ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random) const;
  [[nodiscard]] std::vector<ip2p::EditPair> get_all(std::span<const std::int64_t> prompts,
                                                    std::span<ip2p::SampleRandom> random) const;

 private:
  using Encoded = ip2p::EncodedPairs<const ip2p::AnyPicturePairs, ip2p::AnyCodec>;
  using Cached = ip2p::CachedPairs<const ip2p::AnyPicturePairs, ip2p::AnyCodec>;

  std::int64_t size_;
  std::unique_ptr<Encoded> encoded_;
  std::unique_ptr<Cached> cached_;
};
static_assert(ip2p::PairSource<Pairs>);

}  // namespace train_editor
