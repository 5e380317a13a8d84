#pragma once

/// \file
/// The filter that keeps everything.

#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Keeps every pair.
struct KeepAll {
  /// Looks at nothing, and so is asked first.
  static constexpr auto cost = FilterCost::words;
  /// Keeps the pair.
  Verdict operator()(const CandidatePair& /*pair*/) const { return {}; }
};
static_assert(PairFilter<KeepAll>);

}  // namespace ip2p
