#pragma once

/// \file
/// Checks that the second picture still shows the same scene as the first.

#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Keeps pairs whose pictures' features have a cosine similarity of at least `least` (Brooks et al. 2023,
/// section 3.1.2; .75 in the paper, .7 in the released code).
struct ImageSimilarity {
  /// Looks at the features of the pictures.
  static constexpr auto cost = FilterCost::image_features;
  double least = 0.75;  ///< Threshold, -1 to 1.

  /// Keeps or rejects the pair.
  /// Kept, or rejected with the similarity that was found.
  Verdict operator()(const CandidatePair& pair) const {
    return at_least("image similarity", pair.features.images(), least);
  }
};
static_assert(PairFilter<ImageSimilarity>);

}  // namespace ip2p
