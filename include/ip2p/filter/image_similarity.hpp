#pragma once

/// \file
/// Whether the second picture still shows the first one's scene.

#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Keeps pairs whose pictures' features have a cosine of at least `least` (Brooks et al. 2023, section 3.1.2; .75 in
/// the paper, .7 in the released code).
struct ImageSimilarity {
  /// Looks at the features of the pictures.
  static constexpr auto cost = FilterCost::image_features;
  double least = 0.75;
  /// Kept, or rejected with the similarity that was found.
  Verdict operator()(const CandidatePair& pair) const {
    return at_least("image similarity", pair.features.images(), least);
  }
};
static_assert(PairFilter<ImageSimilarity>);

}  // namespace ip2p
