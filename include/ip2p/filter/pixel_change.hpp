#pragma once

/// \file
/// Whether anything changed at all: a test of pixels that saves CLIP's.

#include <cstddef>
#include <cstdlib>

#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Keeps pairs whose mean absolute difference is at least `least`, in levels of 0 to 255. No test of InstructPix2Pix:
/// pairs that fail it have no direction and would fail there.
struct PixelChange {
  /// Looks at the pictures.
  static constexpr auto cost = FilterCost::pixels;
  double least = 0.5;

  /// \throws Error for pictures of two sizes
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
