#pragma once

/// \file
/// What tests of weights in 8 bits share, of either kind.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/ones.h>

#include <cmath>
#include <cstdint>

#include "ip2p/core/random.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/unet/unet.hpp"

namespace ip2p::testing {

/// Seeded numbers.
inline at::Tensor eight_bit_normal(std::uint64_t seed, at::IntArrayRef shape) {
  return CounterNoise(seed).normal(shape, 0);
}

/// Root mean square of the difference over that of `expected`.
inline double eight_bit_error(const at::Tensor& found, const at::Tensor& expected) {
  const auto rms = [](const at::Tensor& x) { return std::sqrt(x.to(at::kDouble).square().mean().item<double>()); };
  return rms(found.to(at::kDouble) - expected.to(at::kDouble)) / rms(expected);
}

/// A UNet of which transformers and convolutions are multiples of 16 wide. \param context width of the text
inline UNet eight_bit_unet(std::int64_t context) {
  UNetConfig config;
  config.in_channels = 4;
  config.cross_attention_dim = context;
  config.block_out_channels = {32, 64};
  config.cross_attention = {true, false};
  config.heads = {2, 2};
  config.transformer_layers = {1, 1};
  config.layers_per_block = 1;
  config.norm_num_groups = 8;
  UNet unet(config);
  initialise(unet.module(), 7);
  return unet;
}

/// What it predicts for seeded latents and texts.
inline at::Tensor eight_bit_prediction(const UNet& unet) {
  const at::NoGradGuard no_grad;
  return unet(eight_bit_normal(1, {2, 4, 8, 8}), at::ones({1}).mul(500),
              eight_bit_normal(2, {2, 6, unet.config().cross_attention_dim}));
}

}  // namespace ip2p::testing
