#pragma once

/// \file
/// An initialisation that lets the autoencoder train in minutes: before its first update it already stores the
/// principal components of 8x8 blocks of the pictures, and paints them back.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/im2col.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/pixel_unshuffle.h>

#include <cmath>
#include <cstdint>
#include <tuple>

#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/nn/initialise.hpp"

namespace small_editor {

namespace detail {

/// The channels of each pixel, or of the 3x3 pixels around it, as rows: [B,C,h,w] -> [B*h*w, C or 9*C].
inline at::Tensor pixel_rows(const at::Tensor& map, bool around = false) {
  const auto rows = around ? at::im2col(map.contiguous(), {3, 3}, {1, 1}, {1, 1}, {1, 1}) : map.flatten(2);
  return rows.transpose(1, 2).flatten(0, 1).to(at::kDouble);
}

/// The matrix [inputs, outputs] that maps rows of x to rows of y with the least squared error.
inline at::Tensor least_squares(const at::Tensor& x, const at::Tensor& y) {
  const auto squares = x.t().matmul(x);
  const auto ridge = at::eye(x.size(1), x.options()) * (squares.diagonal().mean() * 1e-6);
  return at::linalg_solve(squares + ridge, x.t().matmul(y));
}

/// Takes from the middle taps what the shortcut beside a convolution adds: each input channel, `repeats` times in a
/// row.
inline void cancel_shortcut(const ip2p::Conv2d& conv, std::int64_t repeats) {
  for (std::int64_t row = 0; row < conv.weight.size(0); ++row) conv.weight[row][row / repeats][1][1].sub_(1.0);
}

/// A residual block that adds nothing at first and whose norm divides by a constant: two channels, which go no farther,
/// hold so large a value that the others hardly count. Norms would otherwise make every pixel's correction as large as
/// any other's.
inline void start_without_norm(const ip2p::detail::DcBlock& block) {
  constexpr double held = 8.0, constant = 32.0;  // silu(8) is nearly 8
  block.conv1->weight[0].zero_();
  block.conv1->bias[0].fill_(held);
  block.conv2->weight.zero_();
  block.conv2->weight[0][0][1][1].fill_(constant / held);
  block.conv2->weight[1][0][1][1].fill_(-constant / held);
  block.norm->weight.fill_(constant * std::sqrt(2.0 / static_cast<double>(block.norm->weight.size(0))));
  block.norm->weight.narrow(0, 0, 2).zero_();
}

}  // namespace detail

/// Fills `codec` with fresh weights, a function of `images` and `seed`. Residual blocks add nothing at first, so
/// gradients pass the whole depth. Beside what the linear start uses, weights stay random.
/// \param codec with 4 resolutions, no blocks at the finest, and at least 26, 48 and as many channels as its latents at
///   the others  \param images [B,3,H,W] in [-1,1], with some thousands of blocks  \throws Error for another shape
inline void start_at_principal_blocks(const ip2p::DcAutoencoder& codec, const at::Tensor& images, std::uint64_t seed) {
  using namespace detail;
  const auto& config = codec.config();
  const auto& width = config.decoder_block_out_channels;
  const auto latents = config.latent_channels;
  ip2p::require(width.size() == 4 && config.encoder_layers_per_block[0] == 0 &&
                    config.decoder_layers_per_block[0] == 0 && width[1] >= 26 && width[2] >= 48 && latents <= 192,
                "start_at_principal_blocks: expected 4 resolutions, no blocks at the finest, and at least 26 and 48 "
                "channels at the next, found {} resolutions with {} channels and {} blocks",
                width.size(), fmt::join(width, ", "), config.decoder_layers_per_block[0]);
  ip2p::initialise(codec.module(), seed);
  const at::NoGradGuard no_grad;
  const auto& encoder = *codec.module().encoder;
  const auto& decoder = *codec.module().decoder;
  for (const auto* stages : {&encoder.stages, &decoder.stages}) {
    for (const auto& stage : *stages) {
      for (const auto& block : stage->blocks) start_without_norm(*block);
    }
  }

  // The way down keeps pixels, in its first channels, beside random features.
  const auto keep = [](const ip2p::Conv2d& conv, std::int64_t channels, double scale) {
    conv.weight.narrow(0, 0, channels).zero_();
    conv.bias.zero_();
    for (std::int64_t c = 0; c < channels; ++c) conv.weight[c][c][1][1].fill_(scale);
  };
  keep(*encoder.down_in->conv, 3, 1.0);
  for (const auto& stage : encoder.stages) {
    if (stage->down) keep(*stage->down->conv, stage->down->conv->weight.size(0), 1.0);
  }
  auto features = (*encoder.down_in)(images);
  for (const auto& stage : encoder.stages) features = (*stage)(features);

  // Principal components of blocks, the larger ones made smaller, so that the latents weigh detail more than pixels do.
  auto blocks = images;
  for (int halving = 0; halving < 3; ++halving) blocks = at::pixel_unshuffle(blocks, 2);
  const auto pixels = pixel_rows(blocks);
  const auto centred = pixels - pixels.mean({0}, true);
  const auto [variances, directions] = at::linalg_eigh(centred.t().matmul(centred) / centred.size(0));
  const auto largest = variances.narrow(0, variances.size(0) - latents, latents).flip({0});
  auto components = pixels.matmul(directions.narrow(1, directions.size(1) - latents, latents).flip({1}));
  components = components / largest.pow(0.25);  // half way to unit variance
  components = components / components.square().mean().sqrt();
  const auto into = least_squares(pixel_rows(features), components).to(at::kFloat);
  encoder.conv_out->weight.zero_();
  encoder.conv_out->bias.zero_();
  encoder.conv_out->weight.select(3, 1).select(2, 1).copy_(into.t());
  const auto group = features.size(1) / latents;
  for (std::int64_t c = 0; c < features.size(1); ++c) {
    encoder.conv_out->weight[c / group][c][1][1].sub_(1.0 / static_cast<double>(group));
  }

  // Latents, then the pixels of blocks in the first channels of each resolution.
  const auto z = codec.encode(images);
  decoder.conv_in->weight.zero_();
  decoder.conv_in->bias.zero_();
  for (std::int64_t c = 0; c < latents; ++c) decoder.conv_in->weight[c][c][1][1].fill_(1.0);
  cancel_shortcut(*decoder.conv_in, decoder.repeats);
  const auto& coarse = *decoder.stages[2]->up;
  const auto& fine = *decoder.stages[1]->up;
  const auto painted = least_squares(pixel_rows(z, true), pixels).to(at::kFloat);  // [9 * latents, 192]
  coarse.conv->weight.narrow(1, 0, latents).zero_();
  coarse.conv->bias.zero_();
  coarse.conv->weight.narrow(0, 0, 192).narrow(1, 0, latents).copy_(painted.t().reshape({192, latents, 3, 3}));
  cancel_shortcut(*coarse.conv, coarse.repeats);
  // The last norm divides by what two constant channels dominate, and its activation passes half-waves: +x and -x.
  constexpr double constant = 8.0;
  fine.conv->weight.narrow(1, 0, 48).zero_();
  fine.conv->bias.zero_();
  for (std::int64_t i = 0; i < 48; ++i) {
    fine.conv->weight[8 + i][i][1][1].fill_(1.0);
    fine.conv->weight[56 + i][i][1][1].fill_(-1.0);
  }
  cancel_shortcut(*fine.conv, fine.repeats);
  auto& bias = decoder.stages[1]->blocks.back()->norm->bias;
  bias[0].fill_(constant);
  bias[1].fill_(-constant);
  decoder.norm_out->weight.narrow(0, 0, 2).zero_();
  const double divisor = constant * std::sqrt(2.0 / static_cast<double>(width[1]));
  auto& out = *decoder.up_out->conv;
  out.weight.narrow(1, 0, 26).zero_();
  out.bias.zero_();
  for (std::int64_t i = 0; i < 12; ++i) {
    out.weight[i][2 + i][1][1].fill_(divisor);
    out.weight[i][14 + i][1][1].fill_(-divisor);
  }
}

}  // namespace small_editor
