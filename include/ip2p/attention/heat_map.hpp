#pragma once

/// \file
/// Displays attention maps on pictures.

#include <ATen/ops/stack.h>
#include <ATen/ops/upsample_bilinear2d.h>

#include <cstdint>
#include <span>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/image.hpp"

namespace ip2p {

/// The attention map of a word: the mean of its tokens' maps. \param maps [T,h,w]  \param tokens positions, 0 ... T - 1
/// \return [h,w]  \throws Error if there are no tokens or a position is out of range
inline at::Tensor word_map(const at::Tensor& maps, std::span<const std::int64_t> tokens) {
  require(maps.dim() == 3, "maps: expected [T, h, w], found {}", shape_text(maps.sizes()));
  require(!tokens.empty(), "word_map: expected token positions, found none");
  std::vector<at::Tensor> own;
  for (const auto position : tokens) {
    require(position >= 0 && position < maps.size(0), "word_map: token: expected 0 ... {}, found {}", maps.size(0) - 1,
            position);
    own.push_back(maps[position]);
  }
  return at::stack(own).mean(0);
}

/// Overlays a picture with a colour-coded map: from blue where the map is 0, through green and yellow, to red at its
/// maximum.
///
/// \param map [h,w], >= 0, of any size; resized bilinearly  \param opacity 0 (only the picture) ... 1 (only the
/// colours) \throws Error for a map of another shape or an opacity out of range
inline Image overlay_heat_map(const Image& picture, const at::Tensor& map, double opacity = 0.5) {
  require(map.dim() == 2, "map: expected [h, w], found {}", shape_text(map.sizes()));
  require(opacity >= 0.0 && opacity <= 1.0, "opacity: expected 0 ... 1, found {}", opacity);
  const auto scaled = map.to(at::kCPU, at::kFloat) / map.max().to(at::kCPU, at::kFloat).clamp_min(1e-12);
  const auto level =
      at::upsample_bilinear2d(scaled.unsqueeze(0).unsqueeze(0), {picture.height, picture.width}, false)[0][0];
  // Each channel is a triangle; the three are side by side over 0 ... 1.
  const auto channel = [&](double peak) { return (1.5 - (level * 4.0 - peak).abs()).clamp(0.0, 1.0); };
  const auto colours = at::stack({channel(3.0), channel(2.0), channel(1.0)}) * 255.0;
  const auto mixed = to_tensor(picture).to(at::kFloat) * (1.0 - opacity) + colours * opacity;
  return from_tensor(mixed.round().clamp(0, 255).to(at::kByte));
}

}  // namespace ip2p
