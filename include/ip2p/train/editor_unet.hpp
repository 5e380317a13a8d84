#pragma once

/// \file
/// The UNet that an editor's training starts from, out of a model's files.

#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/train/conv_in.hpp"
#include "ip2p/unet/unet.hpp"

namespace ip2p {

/// Loads a UNet to be trained as an editor, fp32 on the CPU: that of an editor as it is, that of a text-to-image model
/// with twice as many input channels, of which it ignores the new ones at first (`widen_conv_in`).
/// \throws Error for a UNet with other input channels, and as `load_weights` does
inline UNet load_editor_unet(const ModelFiles& files) {
  const auto where = files.where("unet");
  auto config = UNetConfig::from_json(files.config("unet"), where);
  auto weights = files.weights("unet");
  const auto latents = config.out_channels;
  require(config.in_channels == latents || config.in_channels == 2 * latents,
          "{}: expected a UNet with {} (text to image) or {} (editor) input channels, found {}", where, latents,
          2 * latents, config.in_channels);
  if (config.in_channels == latents) {
    config.in_channels = 2 * latents;
    weights = widen_conv_in(std::move(weights), config.in_channels);
  }
  UNet unet(config);
  load_weights(unet.module(), weights, where);
  return unet;
}

}  // namespace ip2p
