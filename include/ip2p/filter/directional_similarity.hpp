#pragma once

/// \file
/// Checks that the pictures changed the way the captions did.

#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Keeps pairs whose directional similarity (Gal et al. 2022) is at least `least` (Brooks et al. 2023, section 3.1.2).
struct DirectionalSimilarity {
  /// Looks at all features.
  static constexpr auto cost = FilterCost::all_features;
  double least = 0.2;  ///< Threshold, -1 to 1.

  /// Keeps or rejects the pair.
  /// Kept, or rejected with the similarity that was found.
  Verdict operator()(const CandidatePair& pair) const {
    return at_least("directional similarity", pair.features.direction(), least);
  }
};
static_assert(PairFilter<DirectionalSimilarity>);

}  // namespace ip2p
