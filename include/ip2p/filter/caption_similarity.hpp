#pragma once

/// \file
/// Checks that each picture shows what its caption says.

#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Keeps pairs in which both pictures' features have a cosine similarity of at least `least` with those of their
/// captions (Brooks et al. 2023, section 3.1.2).
struct CaptionSimilarity {
  /// Looks at all features.
  static constexpr auto cost = FilterCost::all_features;
  double least = 0.2;  ///< Threshold, -1 to 1.

  /// Keeps or rejects the pair.
  /// Kept, or rejected for the first picture that is too far from its caption.
  Verdict operator()(const CandidatePair& pair) const {
    const auto [before, after] = pair.features.captions();
    const auto first = at_least("caption similarity before", before, least);
    return first.kept() ? at_least("caption similarity after", after, least) : first;
  }
};
static_assert(PairFilter<CaptionSimilarity>);

}  // namespace ip2p
