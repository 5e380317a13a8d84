#pragma once

/// \file
/// No filter.

#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Keeps every pair.
struct KeepAll {
  static constexpr auto cost = FilterCost::words;
  Verdict operator()(const CandidatePair& /*pair*/) const { return {}; }
};
static_assert(PairFilter<KeepAll>);

}  // namespace ip2p
