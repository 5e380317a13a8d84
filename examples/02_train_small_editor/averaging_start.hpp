#pragma once

/// \file
/// An initialisation that lets the autoencoder train in minutes: before its first update it already stores the
/// mean colour of each 8x8 block and paints it back.

#include <ATen/ATen.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/nn/initialise.hpp"

namespace small_editor {

namespace detail {

constexpr std::int64_t carriers = 8;  ///< Channels that carry +R, -R, +G, -G, +B, -B and two constants.
constexpr double constant = 6.0;      ///< Of the two constant channels: dominates the variance that norms divide by.

/// Residual branches add nothing at first; shortcuts pass the channels that exist on both sides.
inline void pass_through(const ip2p::ResnetBlock& block) {
  block.conv2->weight.zero_();
  block.conv2->bias.zero_();
  if (!block.conv_shortcut) return;
  auto& shortcut = *block.conv_shortcut;
  const auto kept = std::min({shortcut.weight.size(0), shortcut.weight.size(1)});
  shortcut.weight.narrow(0, 0, kept).zero_();
  shortcut.bias.narrow(0, 0, kept).zero_();
  for (std::int64_t c = 0; c < kept; ++c) shortcut.weight[c][c].fill_(1.0);
}

/// Rows `carriers` of a 3x3 convolution read only their own channel, through `taps` [3,3].
inline void own_channel(const ip2p::Conv2d& conv, const at::Tensor& taps) {
  conv.weight.narrow(0, 0, carriers).zero_();
  conv.bias.narrow(0, 0, carriers).zero_();
  for (std::int64_t c = 0; c < carriers; ++c) conv.weight[c][c].copy_(taps);
}

/// Rows `carriers` become +input c, -input c for c < 3, +constant, -constant.
inline void spread(const ip2p::Conv2d& conv) {
  conv.weight.narrow(0, 0, carriers).zero_();
  conv.bias.narrow(0, 0, carriers).zero_();
  for (std::int64_t c = 0; c < 3; ++c) {
    conv.weight[2 * c][c][1][1].fill_(1.0);
    conv.weight[2 * c + 1][c][1][1].fill_(-1.0);
  }
  conv.bias[6].fill_(constant);
  conv.bias[7].fill_(-constant);
}

/// Rows 0..2 become scale * (silu(x) - silu(-x)) = scale * x of the carriers: the norm before is undone by its standard
/// deviation, which the constants fix.
inline void collect(const ip2p::Conv2d& conv, double scale) {
  conv.weight.narrow(0, 0, 3).mul_(0.02);
  conv.bias.narrow(0, 0, 3).zero_();
  for (std::int64_t c = 0; c < 3; ++c) {
    conv.weight[c].narrow(0, 0, carriers).zero_();
    conv.weight[c][2 * c][1][1].fill_(scale);
    conv.weight[c][2 * c + 1][1][1].fill_(-scale);
  }
}

}  // namespace detail

/// Fills `codec` with fresh weights, a function of `seed`. Needs at least 8 channels a resolution and 4 latent
/// channels.
inline void start_as_block_average(const ip2p::KlAutoencoder& codec, std::uint64_t seed) {
  using namespace detail;
  ip2p::initialise(codec.module(), seed);
  const at::NoGradGuard no_grad;
  const auto& encoder = *codec.module().encoder;
  const auto& decoder = *codec.module().decoder;
  const auto groups = static_cast<double>(codec.config().norm_num_groups);
  const auto deviation = [&](std::int64_t channels) {  // of a group whose only large members are the two constants
    return constant * std::sqrt(2.0 / (static_cast<double>(channels) / groups));
  };
  auto average = at::zeros({3, 3});
  average.narrow(0, 0, 2).narrow(1, 0, 2).fill_(0.25);
  auto centre = at::zeros({3, 3});
  centre[1][1].fill_(1.0);

  const auto middle = [](const ip2p::detail::AutoencoderMiddle& block) {
    pass_through(*block.first);
    pass_through(*block.second);
    block.attention->to_out->weight.zero_();
    block.attention->to_out->bias.zero_();
  };
  spread(*encoder.conv_in);
  for (const auto& stage : encoder.stages) {
    for (const auto& block : stage->resnets) pass_through(*block);
    if (stage->downsampler) own_channel(*stage->downsampler->conv, average);
  }
  middle(*encoder.middle);
  constexpr double latent_scale = 2.0;  // colours in [-1,1] have a deviation near 0.5
  collect(*encoder.conv_out, latent_scale * deviation(codec.config().block_out_channels.back()));
  const auto latents = codec.latent_channels();
  encoder.conv_out->weight.narrow(0, latents, latents).zero_();
  encoder.conv_out->bias.narrow(0, latents, latents).fill_(-6.0);  // log variance
  codec.module().quant_conv->weight.copy_(at::eye(2 * latents).view({2 * latents, 2 * latents, 1, 1}));
  codec.module().quant_conv->bias.zero_();

  codec.module().post_quant_conv->weight.copy_(at::eye(latents).view({latents, latents, 1, 1}));
  codec.module().post_quant_conv->bias.zero_();
  spread(*decoder.conv_in);
  middle(*decoder.middle);
  for (const auto& stage : decoder.stages) {
    for (const auto& block : stage->resnets) pass_through(*block);
    if (stage->upsampler) own_channel(*stage->upsampler->conv, centre);
  }
  collect(*decoder.conv_out, deviation(codec.config().block_out_channels.front()) / latent_scale);
}

}  // namespace small_editor
