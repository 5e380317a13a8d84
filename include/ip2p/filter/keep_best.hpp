#pragma once

/// \file
/// Selects the pairs of one prompt that go into the data set, and counts why the others do not.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/filter/concepts.hpp"

namespace ip2p {

/// Counts of what happened to pairs; add them up over prompts.
struct FilterCounts {
  std::int64_t judged = 0;                       ///< Pairs that were looked at.
  std::int64_t kept = 0;                         ///< Pairs that stay.
  std::int64_t surplus = 0;                      ///< Passed the filter, but others of the prompt were better.
  std::map<std::string, std::int64_t> rejected;  ///< By the verdict's reason.

  /// Adds the counts of another prompt.
  FilterCounts& operator+=(const FilterCounts& other) {
    judged += other.judged;
    kept += other.kept;
    surplus += other.surplus;
    for (const auto& [reason, count] : other.rejected) rejected[reason] += count;
    return *this;
  }
  friend bool operator==(const FilterCounts&, const FilterCounts&) = default;
};

/// The pairs of a prompt that were kept.
struct PairSelection {
  std::vector<std::size_t> kept;  ///< Their places, the best direction first.
  FilterCounts counts;            ///< What became of all of them.
};

/// Judges the pairs of one prompt and keeps up to `most` of those that pass `filter` (InstructPix2Pix keeps 4), chosen
/// by highest directional similarity; NaN counts as the lowest. Ties go to the earlier pair or, if the pairs' `seeds`
/// are given, to the larger seed, as in the released program. \throws Error unless there are no seeds or one per pair
template <class Filter>
PairSelection keep_best(std::span<const CandidatePair> pairs, const Filter& filter, std::size_t most = 4,
                        std::span<const std::uint64_t> seeds = {}) {
  require_pair_filter<Filter>();
  require(seeds.empty() || seeds.size() == pairs.size(), "keep_best: expected a seed for each of {} pairs, found {}",
          pairs.size(), seeds.size());
  PairSelection selection;
  std::vector<std::pair<double, std::size_t>> passed;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const Verdict verdict = filter(pairs[i]);
    ++selection.counts.judged;
    if (verdict.kept()) {
      const double direction = pairs[i].features.direction();
      passed.emplace_back(std::isnan(direction) ? -std::numeric_limits<double>::infinity() : direction, i);
    } else {
      ++selection.counts.rejected[std::string(verdict.reason)];
    }
  }
  std::stable_sort(passed.begin(), passed.end(), [&](const auto& a, const auto& b) {
    if (a.first != b.first || seeds.empty()) return a.first > b.first;
    return seeds[a.second] > seeds[b.second];
  });
  for (std::size_t k = 0; k < std::min(most, passed.size()); ++k) selection.kept.push_back(passed[k].second);
  selection.counts.kept = static_cast<std::int64_t>(selection.kept.size());
  selection.counts.surplus = static_cast<std::int64_t>(passed.size()) - selection.counts.kept;
  return selection;
}

}  // namespace ip2p
