#pragma once

/// \file
/// A start at which an editor gives the photograph back.

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <cstdint>

#include "ip2p/core/error.hpp"
#include "ip2p/train/zero_branches.hpp"
#include "ip2p/unet/unet.hpp"

namespace small_editor {

/// Makes the first prediction of a UNet that predicts x0 the photograph itself: `scale` times the condition; every
/// residual branch adds nothing (`start_branches_at_zero`).
///
/// The condition travels as pairs +y, -y with two constants through `conv_in`, the outermost skip connection and the
/// output: silu(y) - silu(-y) = y undoes the activation, and the constants are so large that they fix the deviation
/// that the last norm divides by. Training then learns what an edit changes, not how to copy. \param scale the target's
/// scaling factor; the condition is unscaled \throws Error unless the input is noisy latents and as many condition
/// channels, and a norm group of the finest
///   resolution holds 2 C + 2 channels
inline void start_at_condition(const ip2p::UNet& unet, double scale) {
  ip2p::start_branches_at_zero(unet);
  const at::NoGradGuard no_grad;
  const auto& module = unet.module();
  const auto latents = module.config.out_channels;
  const auto width = module.config.block_out_channels.front();
  const auto group = width / module.config.norm_num_groups;
  const auto carriers = 2 * latents + 2;
  ip2p::require(module.config.in_channels == 2 * latents, "start_at_condition: expected {} input channels, found {}",
                2 * latents, module.config.in_channels);
  ip2p::require(group >= carriers, "start_at_condition: expected norm groups of at least {} channels, found {}",
                carriers, group);
  const auto& last = *module.up.back()->resnets.back();
  auto& in = *module.conv_in;
  auto& shortcut = *last.conv_shortcut;  // the last block sees twice its width, so it has one
  in.weight.narrow(0, 0, carriers).zero_();
  in.bias.narrow(0, 0, carriers).zero_();
  shortcut.weight.narrow(0, 0, group).zero_();
  shortcut.bias.narrow(0, 0, group).zero_();
  const auto skip = shortcut.weight.size(1) - width;  // channels of conv_in come last
  for (std::int64_t i = 0; i < carriers; ++i) shortcut.weight[i][skip + i].fill_(1.0);
  constexpr double constant = 24.0;  // latents have a deviation of 1 / scale, about 2
  const double deviation = constant * std::sqrt(2.0 / static_cast<double>(group));
  for (std::int64_t c = 0; c < latents; ++c) {
    in.weight[2 * c][latents + c][1][1].fill_(1.0);
    in.weight[2 * c + 1][latents + c][1][1].fill_(-1.0);
    module.conv_out->weight[c][2 * c][1][1].fill_(deviation * scale);
    module.conv_out->weight[c][2 * c + 1][1][1].fill_(-deviation * scale);
  }
  in.bias[2 * latents].fill_(constant);
  in.bias[2 * latents + 1].fill_(-constant);
}

}  // namespace small_editor
