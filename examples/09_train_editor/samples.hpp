#pragma once

/// \file
/// Pictures that show how far a run has come.

#include <cstdint>

#include "ip2p/codec/any_codec.hpp"
#include "ip2p/data/any_picture_pairs.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/unet/unet.hpp"
#include "model.hpp"
#include "options.hpp"

namespace train_editor {

/// The parts of the editor that is being trained.
struct EditorParts {
  const TextEncoder& text;
  const ip2p::AnyCodec& codec;
  const ip2p::UNet& unet;
  const ip2p::SchedulerConfig& scheduler;
};

/// Writes rows of before, after and our result, always for the same pairs and noise, to a picture named after `step`.
void write_samples(const Options& o, std::int64_t step, const EditorParts& parts,
                   const ip2p::AnyPicturePairs& held_out);

}  // namespace train_editor
