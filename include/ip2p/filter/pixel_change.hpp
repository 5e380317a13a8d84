#pragma once

/// \file
/// Checks that anything changed at all: a cheap test on pixels that saves computing CLIP features.

#include <cstddef>
#include <cstdlib>

#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Keeps pairs whose mean absolute pixel difference is at least `least`. InstructPix2Pix has no such test, but a pair
/// without a visible change would fail its directional similarity anyway.
struct PixelChange {
  /// Looks at the pictures.
  static constexpr auto cost = FilterCost::pixels;
  double least = 0.5;  ///< Threshold in 8-bit levels, 0 to 255.

  /// Keeps or rejects the pair. \throws Error for pictures of different sizes
  Verdict operator()(const CandidatePair& pair) const {
    const auto &a = pair.before, &b = pair.after;
    require_consistent(a, "pixel change");
    require_consistent(b, "pixel change");
    require(a.width == b.width && a.height == b.height,
            "pixel change: expected pictures of one size, found {}x{} and {}x{}", a.width, a.height, b.width, b.height);
    double sum = 0.0;
    for (std::size_t i = 0; i < a.pixels.size(); ++i) sum += std::abs(int{a.pixels[i]} - int{b.pixels[i]});
    return at_least("pixel change", sum / static_cast<double>(a.pixels.size()), least);
  }
};
static_assert(PairFilter<PixelChange>);

}  // namespace ip2p
