#pragma once

/// \file
/// Where a photograph's pixels lie in a picture of a part of it, and that picture's colours there.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ip2p/io/image_types.hpp"
#include "ip2p/io/resample.hpp"

namespace ip2p {

/// One axis of a photograph beside the same axis of a smaller picture of a part of it. Pixels outside of the part have
/// the place of its edge.
class Placement {
 public:
  /// \param low, high the part, in the photograph's pixels  \param count pixels of the smaller picture
  Placement(float low, float high, std::int64_t count) : low_(low), extent_(high - low), count_(count) {}

  /// The middle of the photograph's pixel `i`, as a share of the part, in [0,1].
  [[nodiscard]] float share(std::int64_t i) const {
    return std::clamp((static_cast<float>(i) + 0.5F - low_) / extent_, 0.0F, 1.0F);
  }

  /// 1 for a pixel of the part, falling to 0 within a sixteenth of the part's extent beyond its edges.
  [[nodiscard]] float nearness(std::int64_t i) const {
    const float place = (static_cast<float>(i) + 0.5F - low_) / extent_;
    return std::clamp(1.0F - 16.0F * std::max(-place, place - 1.0F), 0.0F, 1.0F);
  }

  /// Pixels and their weights.
  struct Taps {
    std::array<std::int64_t, 4> index;  ///< Of the smaller picture.
    std::array<float, 4> weight;        ///< Their sum is 1.
  };

  /// What the photograph's pixel `i` is interpolated from, by Catmull and Rom's cubic.
  [[nodiscard]] Taps cubic(std::int64_t i) const {
    const auto [first, t] = between(i);
    Taps taps{};
    for (std::int64_t k = 0; k < 4; ++k) {
      taps.index[static_cast<std::size_t>(k)] = std::clamp<std::int64_t>(first - 1 + k, 0, count_ - 1);
    }
    taps.weight = {((-0.5F * t + 1.0F) * t - 0.5F) * t, (1.5F * t - 2.5F) * t * t + 1.0F,
                   ((-1.5F * t + 2.0F) * t + 0.5F) * t, (0.5F * t - 0.5F) * t * t};
    return taps;
  }

  /// The same, linearly: two pixels, and weights of 0.
  [[nodiscard]] Taps linear(std::int64_t i) const {
    const auto [first, t] = between(i);
    return {{first, std::min(first + 1, count_ - 1), first, first}, {1.0F - t, t, 0.0F, 0.0F}};
  }

 private:
  struct Between {
    std::int64_t first;
    float share;
  };
  [[nodiscard]] Between between(std::int64_t i) const {
    const float place = std::clamp(share(i) * static_cast<float>(count_) - 0.5F, 0.0F, static_cast<float>(count_ - 1));
    const auto first = static_cast<std::int64_t>(place);
    return {first, place - static_cast<float>(first)};
  }

  float low_, extent_;
  std::int64_t count_;
};

namespace detail {

/// A picture's values in [0,1], [height][width][3].
inline std::vector<float> unit_values(const Image& image) {
  std::vector<float> values(image.pixels.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(image.pixels[i]) / 255.0F;
  return values;
}

/// The value in [0,1] to 8 bits, to the nearest.
inline std::uint8_t eight_bits(float value) {
  return static_cast<std::uint8_t>(std::clamp(value, 0.0F, 1.0F) * 255.0F + 0.5F);
}

/// One row between the rows of `values`, [.][size]. \param row overwritten
inline void row_between(std::span<const float> values, std::size_t size, const Placement::Taps& taps,
                        std::vector<float>& row) {
  row.assign(size, 0.0F);
  for (std::size_t k = 0; k < 4; ++k) {
    const float* source = values.data() + static_cast<std::size_t>(taps.index[k]) * size;
    for (std::size_t i = 0; i < size; ++i) row[i] += taps.weight[k] * source[i];
  }
}

/// A model's picture, reduced where the part of the photograph that it shows has fewer pixels: it needs no more of it.
inline Image no_larger_than_seen(const Image& picture, const Box& seen) {
  const auto side = [](std::int64_t model, float extent) {
    return std::min(model, std::max<std::int64_t>(static_cast<std::int64_t>(std::ceil(extent)), 1));
  };
  return resize(picture, side(picture.width, seen.right - seen.left), side(picture.height, seen.bottom - seen.top),
                Filter::bicubic);
}

}  // namespace detail

}  // namespace ip2p
