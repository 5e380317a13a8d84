#pragma once

/// \file
/// Starts at which an editor gives the photograph back.

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <cstdint>

#include "ip2p/core/error.hpp"
#include "ip2p/train/zero_branches.hpp"
#include "ip2p/unet/unet.hpp"

namespace small_editor {

/// Lets the condition through a UNet that predicts x0, so that its first prediction is the photograph itself: `scale`
/// times the condition, plus what the other channels of the last block give to `conv_out`, whose weights for them
/// become 0. Training then learns what an edit changes, not how to copy.
///
/// The condition travels through the last channels of `conv_in`, the outermost skip connection and, as pairs +y, -y,
/// the last block's shortcut and `conv_out`: silu(y) - silu(-y) = y undoes the activation. Each norm group that holds
/// pairs holds two constants too, so large that they fix the deviation that the last norm divides by.
/// \param scale the target's scaling factor; the condition is unscaled  \throws Error unless the input is noisy latents
///   and as many condition channels, and the finest resolution has room for the latents and, in its norm groups, for
///   the pairs
inline void let_condition_through(const ip2p::UNet& unet, double scale) {
  const at::NoGradGuard no_grad;
  const auto& module = unet.module();
  const auto latents = module.config.out_channels;
  const auto width = module.config.block_out_channels.front();
  const auto groups = module.config.norm_num_groups;
  const auto group = width / groups;
  const auto pairs = (group - 2) / 2;  // in a group
  ip2p::require(module.config.in_channels == 2 * latents, "let_condition_through: expected {} input channels, found {}",
                2 * latents, module.config.in_channels);
  ip2p::require(pairs * groups >= latents && width > latents,
                "let_condition_through: expected a finest resolution with room for {} pairs of channels and 2 more in "
                "each norm group, found {} channels in {} groups",
                latents, width, groups);
  const auto& last = *module.up.back()->resnets.back();
  auto& in = *module.conv_in;
  auto& out = *module.conv_out;
  auto& shortcut = *last.conv_shortcut;                         // the last block sees twice its width, so it has one
  const auto carried = width - latents;                         // first of the channels of conv_in
  const auto skip = shortcut.weight.size(1) - width + carried;  // channels of conv_in come last
  in.weight.narrow(0, carried, latents).zero_();
  in.bias.narrow(0, carried, latents).zero_();
  out.weight.zero_();
  out.bias.zero_();
  constexpr double constant = 24.0;  // latents have a deviation of 1 / scale, about 1 to 2
  const double deviation = constant * std::sqrt(2.0 / static_cast<double>(group));
  const auto own = [&](std::int64_t channel) {  // of the last block's result: nothing but what is set here
    shortcut.weight[channel].zero_();
    shortcut.bias[channel].zero_();
    last.conv2->weight[channel].zero_();
    last.conv2->bias[channel].zero_();
  };
  for (std::int64_t c = 0; c < latents; ++c) {
    in.weight[carried + c][latents + c][1][1].fill_(1.0);
    const auto channel = width - (c / pairs + 1) * group + 2 * (c % pairs);  // groups are filled from the last
    for (std::int64_t sign = 0; sign < 2; ++sign) {
      const double value = sign == 0 ? 1.0 : -1.0;
      own(channel + sign);
      shortcut.weight[channel + sign][skip + c].fill_(value);
      out.weight[c][channel + sign][1][1].fill_(value * deviation * scale);
    }
  }
  for (std::int64_t g = 0; g * pairs < latents; ++g) {
    const auto channel = width - g * group - 2;
    own(channel);
    own(channel + 1);
    shortcut.bias[channel].fill_(constant);
    shortcut.bias[channel + 1].fill_(-constant);
    module.conv_norm_out->weight.narrow(0, channel, 2).zero_();  // they go no farther
  }
}

/// The same for fresh weights: every residual branch adds nothing (`start_branches_at_zero`).
inline void start_at_condition(const ip2p::UNet& unet, double scale) {
  ip2p::start_branches_at_zero(unet);
  let_condition_through(unet, scale);
}

}  // namespace small_editor
