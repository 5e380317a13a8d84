#pragma once

/// \file
/// The model that a run begins from, and the one that it makes.

#include <filesystem>

#include "ip2p/codec/any_codec.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/text/cached_text_encoder.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/unet/unet.hpp"

namespace train_editor {

using TextEncoder = ip2p::CachedTextEncoder<ip2p::ClipTextEncoder>;

/// The autoencoder, which is not trained.
ip2p::AnyCodec open_codec(const ip2p::ModelFiles& files, const ip2p::LoadOptions& options);

/// The text encoder, which is not trained. \param kept what it encoded
TextEncoder open_text_encoder(const ip2p::ModelFiles& files, const ip2p::LoadOptions& options,
                              const ip2p::CachedTextOptions& kept);

/// The UNet, with channels for a photograph where the model has none.
ip2p::UNet open_unet(const ip2p::ModelFiles& files);

/// Writes a folder that other programs open: the trained UNet, with everything else of the model that it began from.
void write_model(const std::filesystem::path& folder, const ip2p::ModelFiles& files, const ip2p::UNet& unet,
                 const ip2p::SchedulerConfig& scheduler);

}  // namespace train_editor
