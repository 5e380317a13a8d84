#pragma once

/// \file
/// How well an edit preserves what lies outside its intended region.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include "ip2p/core/error.hpp"
#include "ip2p/evaluate/ssim.hpp"
#include "ip2p/io/image_types.hpp"

namespace ip2p {

/// Similarity of two pictures outside a mask.
struct Preservation {
  double difference = 0.0;  ///< Mean absolute difference, in levels from 0 to 255.
  double psnr = 0.0;        ///< In dB; infinite if nothing changed.
  /// Mean structural similarity over the pixels outside the mask that are at least 5 pixels from every border; their
  /// windows may reach into the mask. NaN if there are none.
  double ssim = 0.0;
};

/// Compares two pictures outside a mask. \param edited mask of the pixels meant to change: those with any channel above
/// 0, as in masked edits
/// \throws Error for pictures or masks of different sizes or below 11x11, and for a mask that covers everything
inline Preservation preservation(const Image& before, const Image& after, const Image& edited) {
  const auto map = detail::ssim_map(before, after);
  require_consistent(edited, "preservation: mask");
  require(edited.width == before.width && edited.height == before.height,
          "preservation: mask: expected {}x{} pixels as the pictures have, found {}x{}", before.width, before.height,
          edited.width, edited.height);
  double absolute = 0.0, squares = 0.0, similarity = 0.0;
  std::int64_t pixels = 0, inside = 0;
  for (std::int64_t y = 0; y < before.height; ++y) {
    for (std::int64_t x = 0; x < before.width; ++x) {
      const auto first = static_cast<std::size_t>((y * before.width + x) * 3);
      if (edited.pixels[first] > 0 || edited.pixels[first + 1] > 0 || edited.pixels[first + 2] > 0) continue;
      ++pixels;
      for (std::size_t channel = first; channel < first + 3; ++channel) {
        const double difference =
            static_cast<double>(before.pixels[channel]) - static_cast<double>(after.pixels[channel]);
        absolute += std::abs(difference);
        squares += difference * difference;
      }
      const auto left = x - detail::ssim_radius, top = y - detail::ssim_radius;
      if (left < 0 || top < 0 || left >= map.width || top >= map.height) continue;
      ++inside;
      similarity += map.at(left, top);
    }
  }
  require(pixels > 0, "preservation: mask: expected pixels outside it, found that it covers the picture");
  const auto values = static_cast<double>(3 * pixels);
  return {
      absolute / values,
      squares == 0.0 ? std::numeric_limits<double>::infinity() : 10.0 * std::log10(255.0 * 255.0 * values / squares),
      inside > 0 ? similarity / static_cast<double>(inside) : std::numeric_limits<double>::quiet_NaN()};
}

}  // namespace ip2p
