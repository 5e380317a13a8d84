#pragma once

/// \file
/// Data and loss for the small autoencoder.

#include <ATen/ATen.h>
#include <ATen/ops/stack.h>

#include <cstdint>
#include <span>
#include <vector>

#include "edits.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/core/random.hpp"
#include "photographs.hpp"

namespace small_editor {

/// Reconstruction of random crops, half of them edited by a random family, so that every look that the editor must
/// produce can be decoded. A function of (seed, step).
struct AutoencoderLoss {
  const ip2p::KlAutoencoder& codec;
  std::span<const at::Tensor> photographs;  ///< uint8 [3,H,W]
  std::uint64_t seed = 0;
  std::int64_t pixels = 8 * 64 * 64;  ///< Pixels per batch; every fourth batch has fewer, larger crops.
  std::int64_t picture = 256;         ///< Side of the pictures to edit.
  double square_weight = 1.0;         ///< Of the mean squared error beside the L1 error; hurries the colours.
  double edge_weight = 0.5;           ///< Of the L1 distance of finite differences, against blur.
  double kl_weight = 2e-4;            ///< Of the mean KL divergence an element; keeps latents near unit scale.

  /// Images of one part of a batch, [B,3,s,s] in [-1,1].
  [[nodiscard]] at::Tensor batch(std::int64_t step, std::int64_t part, std::int64_t parts) const {
    const std::int64_t side = step % 4 == 3 ? 128 : 64;
    const std::int64_t count = std::max<std::int64_t>(1, pixels / (side * side * parts));
    std::vector<at::Tensor> images;
    for (std::int64_t i = part * count; i < (part + 1) * count; ++i) {
      ip2p::SampleRandom random(seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(i));
      const auto& photo =
          photographs[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(photographs.size())))];
      auto crop = random_crop(photo, side, picture, random);
      const auto& families = edit_families();
      const auto choice = random.below(2 * static_cast<std::int64_t>(families.size()));
      if (choice < static_cast<std::int64_t>(families.size()))
        crop = families[static_cast<std::size_t>(choice)].apply(crop);
      images.push_back(crop * 2 - 1);
    }
    return at::stack(images);
  }

  /// Mean loss of a part; see `ip2p::LossByParts`.
  at::Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts) const {
    const auto images = [&] {
      const at::NoGradGuard no_grad;
      return batch(step, part, parts).contiguous(at::MemoryFormat::ChannelsLast);
    }();
    const auto moments = codec.encode_moments(images);
    const auto noise = ip2p::CounterNoise(seed + 1, static_cast<std::uint32_t>(part * images.size(0)))
                           .normal(moments.mean.sizes(), step);
    const auto error = codec.decode(moments.sample(noise)) - images;
    const auto edges = (error.slice(2, 1) - error.slice(2, 0, -1)).abs().mean() +
                       (error.slice(3, 1) - error.slice(3, 0, -1)).abs().mean();
    const auto divergence = 0.5 * (moments.mean.square() + moments.logvar.exp() - 1 - moments.logvar).mean();
    return error.abs().mean() + square_weight * error.square().mean() + edge_weight * edges + kl_weight * divergence;
  }
};

}  // namespace small_editor
