#pragma once

/// \file
/// Data and loss for the small autoencoder.

#include <ATen/ATen.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>

#include <cstdint>
#include <span>
#include <vector>

#include "edits.hpp"
#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/train/precision.hpp"
#include "photographs.hpp"
#include "picture_error.hpp"

namespace small_editor {

/// Reconstruction of random crops: half of them as they are, a quarter edited by a random family, and a quarter with
/// random colours, so that every look that the editor must produce can be decoded. A function of (seed, step).
struct AutoencoderLoss {
  const ip2p::DcAutoencoder& codec;
  std::span<const at::Tensor> photographs;  ///< uint8 [3,H,W]
  std::uint64_t seed = 0;
  std::int64_t crops = 4;      ///< Per batch.
  std::int64_t side = 96;      ///< Of the crops, in pixels.
  std::int64_t picture = 256;  ///< Side of the pictures to edit.
  double noise = 0.03;         ///< Added to the latents, of their standard deviation: the editor's will not be exact.
  at::ScalarType precision = at::kFloat;  ///< kBFloat16: convolutions in 16 bits.

  /// Images of one part of a batch, [B,3,s,s] in [-1,1].
  [[nodiscard]] at::Tensor batch(std::int64_t step, std::int64_t part, std::int64_t parts) const {
    const std::int64_t count = std::max<std::int64_t>(1, crops / parts);
    std::vector<at::Tensor> images;
    for (std::int64_t i = part * count; i < (part + 1) * count; ++i) {
      ip2p::SampleRandom random(seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(i));
      const auto& photo =
          photographs[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(photographs.size())))];
      auto crop = random_crop(photo, side, picture, random);
      const auto& families = edit_families();
      const auto kind = random.below(4);
      if (kind == 0) {
        const auto choice = random.below(static_cast<std::int64_t>(families.size()));
        crop = families[static_cast<std::size_t>(choice)].apply(crop);
      } else if (kind == 1) {
        crop = recoloured(crop, random);
      }
      images.push_back(crop * 2 - 1);
    }
    return at::stack(images);
  }

  /// Images of the first batches, [count,3,s,s].
  [[nodiscard]] at::Tensor sample(std::int64_t count) const {
    std::vector<at::Tensor> batches;
    for (std::int64_t step = 0; step * crops < count; ++step) batches.push_back(batch(step, 0, 1));
    return at::cat(batches).narrow(0, 0, count);
  }

  /// Mean loss of a part; see `ip2p::LossByParts`.
  at::Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts) const {
    const auto images = [&] {
      const at::NoGradGuard no_grad;
      return batch(step, part, parts).contiguous(at::MemoryFormat::ChannelsLast);
    }();
    const auto decoded = [&] {
      const ip2p::Autocast autocast(at::kCPU, precision);
      const auto latents = codec.encode(images);
      const auto deviation = latents.detach().to(at::kFloat).std();
      const auto draw =
          ip2p::CounterNoise(seed + 1, static_cast<std::uint32_t>(part * images.size(0))).normal(latents.sizes(), step);
      return codec.decode(latents + (draw * deviation * noise).to(latents.scalar_type()));
    }();
    return picture_error(decoded.to(at::kFloat) - images);
  }

 private:
  /// Mixes the channels of [3,s,s] and changes their contrast, at random.
  static at::Tensor recoloured(const at::Tensor& rgb, ip2p::SampleRandom& random) {
    auto mix = at::empty({3, 3});
    for (std::int64_t i = 0; i < 9; ++i) mix.view(-1)[i].fill_(random.uniform(-0.5, 0.8));
    const auto mean = rgb.mean({1, 2}, true);
    const auto mixed = at::matmul(mix, (rgb - mean).flatten(1)).view_as(rgb);
    return (mixed + mean * random.uniform(0.3, 1.5)).clamp(0, 1);
  }
};

}  // namespace small_editor
