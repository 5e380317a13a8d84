#pragma once

/// \file
/// The loss that fits the decoder to the editor.

#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ip2p/codec/dc_autoencoder.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/train/precision.hpp"
#include "picture_error.hpp"

namespace small_editor {

/// Mean of the products of two lists of pictures' gradients, the differences of neighbours. [B,3,H,W] -> [B]
inline at::Tensor gradient_product(const at::Tensor& a, const at::Tensor& b) {
  const auto across = [](const at::Tensor& x, std::int64_t axis) { return x.slice(axis, 1) - x.slice(axis, 0, -1); };
  return (across(a, 2) * across(b, 2)).mean({1, 2, 3}) + (across(a, 3) * across(b, 3)).mean({1, 2, 3});
}

/// Decoded windows of the editor's results against their targets: how far the pictures are apart, and how much of the
/// target's detail is missing.
///
/// The editor predicts the mean of what a picture could be, and the mean of sharp pictures is a soft one. The error
/// alone would keep it so; more of the detail that the decoder is sure of costs hardly any error, since the error is
/// flat around its least. How much of the detail is there is the share of the target's gradients that the result's
/// contain: it grows with true detail alone, where the energy of gradients would grow with any texture. Only edits are
/// sharpened so. A function of (seed, step).
template <class Results>
struct DecoderLoss {
  const ip2p::DcAutoencoder& codec;
  Results& results;
  std::uint64_t seed = 0;
  std::int64_t windows = 6;               ///< Per batch.
  std::int64_t side = 96;                 ///< Of the windows, in pixels.
  double sharpness = 0.3;                 ///< Weight of the square of the missing share.
  at::ScalarType precision = at::kFloat;  ///< kBFloat16: convolutions in 16 bits.

  /// Mean loss of a part; see `ip2p::LossByParts`.
  at::Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts) const {
    const std::int64_t count = std::max<std::int64_t>(1, windows / parts);
    std::vector<at::Tensor> latents, targets;
    std::vector<float> edited;
    for (std::int64_t i = part * count; i < (part + 1) * count; ++i) {
      ip2p::SampleRandom random(seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(i));
      const auto& crop = results.get(random.below(results.size()));
      // Half of the windows are of photographs, so that the round trip stays what it is.
      const auto last = crop.latents.size(0) - 1, result = random.below(2) == 0 ? last : random.below(last);
      edited.push_back(crop.edited[static_cast<std::size_t>(result)]);
      const auto pixels = codec.downscale(), size = std::min(side / pixels, crop.latents.size(2));
      const auto top = random.below(crop.latents.size(2) - size + 1),
                 left = random.below(crop.latents.size(3) - size + 1);
      latents.push_back(crop.latents[result].narrow(1, top, size).narrow(2, left, size));
      targets.push_back(
          crop.targets[result].narrow(1, top * pixels, size * pixels).narrow(2, left * pixels, size * pixels));
    }
    const auto wanted = at::stack(targets).to(at::kFloat).div_(127.5).sub_(1);
    const auto predicted = at::stack(latents).to(at::kFloat);
    const auto decode = [&] {
      const ip2p::Autocast autocast(at::kCPU, precision);
      return codec.decode(predicted);
    };
    const auto decoded = decode().to(at::kFloat);
    const auto error = picture_error(decoded - wanted);
    constexpr double least = 1e-5;  // detail that nobody sees
    const auto missing = 1 - (gradient_product(decoded, wanted) + least) / (gradient_product(wanted, wanted) + least);
    return error + sharpness * (missing.square() * at::tensor(edited)).mean();
  }
};

}  // namespace small_editor
