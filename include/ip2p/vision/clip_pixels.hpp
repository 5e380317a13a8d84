#pragma once

/// \file
/// Picture preprocessing for CLIP: as in the InstructPix2Pix release, and as in transformers' CLIPImageProcessor.

#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bicubic2d.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"

namespace ip2p {

/// How a picture is fitted into CLIP's square input.
enum class ClipView {
  released,   ///< Stretched by plain bicubic interpolation without antialiasing (`clip_similarity.py`).
  processor,  ///< Shorter side by Pillow's bicubic filter, then the centre crop (transformers' `CLIPImageProcessor`).
};

/// Range in which pictures in [-1, 1] are passed to CLIP, which was trained on [0, 1].
enum class ClipRange {
  correct,  ///< (x + 1) / 2, clamped to [0, 1].
  compat,   ///< Unchanged, as the released evaluation (`compute_metrics.py`) does.
};

/// Subtracts CLIP's mean and divides by its deviation. \param images [..., 3, H, W] in [0, 1]
inline at::Tensor normalise_for_clip(const at::Tensor& images) {
  const auto channels = [&](std::initializer_list<float> values) {
    return detail::to_device(at::tensor(at::ArrayRef<float>(values), at::kFloat).view({3, 1, 1}), images.device());
  };
  return (images.to(at::kFloat) - channels({0.48145466F, 0.4578275F, 0.40821073F})) /
         channels({0.26862954F, 0.26130258F, 0.27577711F});
}

/// Preprocesses as `ClipView::released` does, for images of any range. \param images [B, 3, H, W]  \return [B, 3, side,
/// side], normalised
inline at::Tensor released_clip_pixels(const at::Tensor& images, std::int64_t side) {
  require(images.dim() == 4 && images.size(1) == 3, "clip pixels: expected images [B, 3, H, W], found {}",
          shape_text(images.sizes()));
  return normalise_for_clip(at::upsample_bicubic2d(images.to(at::kFloat), {side, side}, false));
}

/// The square that transformers' CLIPImageProcessor produces, bit for bit (with the Pillow version that `order` names):
/// the shorter side becomes `side`, the longer floor(side * longer / shorter), then the centre is cropped.
inline Image clip_square(const Image& image, std::int64_t side, PassOrder order = PassOrder::adaptive) {
  require_consistent(image, "clip square");
  require(side > 0, "clip square: expected a positive side, found {}", side);
  const auto shorter = std::min(image.width, image.height);
  const auto length = [&](std::int64_t pixels) { return pixels == shorter ? side : side * pixels / shorter; };
  const Image resized = resize(image, length(image.width), length(image.height), Filter::bicubic, std::nullopt, order);
  const auto left = (resized.width - side) / 2, top = (resized.height - side) / 2;
  Image square{side, side, {}};
  square.pixels.reserve(static_cast<std::size_t>(side * side * 3));
  for (std::int64_t y = top; y < top + side; ++y) {
    const auto row = resized.pixels.begin() + (y * resized.width + left) * 3;
    square.pixels.insert(square.pixels.end(), row, row + side * 3);
  }
  return square;
}

/// Preprocesses pictures of any sizes for CLIP. \return [B, 3, side, side], normalised, fp32 on the CPU
inline at::Tensor clip_pixels(std::span<const Image> pictures, std::int64_t side, ClipView view = ClipView::released) {
  require(!pictures.empty(), "clip pixels: expected at least one picture, found none");
  std::vector<at::Tensor> squares;
  for (const auto& picture : pictures) {
    if (view == ClipView::processor) {
      squares.push_back(normalise_for_clip(to_tensor(clip_square(picture, side)).to(at::kFloat) / 255));
    } else {
      squares.push_back(released_clip_pixels(to_tensor(picture).to(at::kFloat).div(255).unsqueeze(0), side)[0]);
    }
  }
  return at::stack(squares);
}

}  // namespace ip2p
