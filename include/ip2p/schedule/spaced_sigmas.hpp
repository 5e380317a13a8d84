#pragma once

/// \file
/// Helpers for schedules given by a formula between a highest and a lowest noise level.

#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"

namespace ip2p::detail {

/// The lowest and highest noise level of a run, not counting the final 0.
struct SigmaRange {
  double min;
  double max;
};

/// Returns `range`. Throws `Error` naming `schedule` unless 0 < min < max and max is finite.
inline SigmaRange checked_range(std::string_view schedule, SigmaRange range) {
  require(range.min > 0.0 && range.min < range.max && std::isfinite(range.max),
          "{}: expected 0 < sigma_min < sigma_max, found {} and {}", schedule, range.min, range.max);
  return range;
}

/// The given ends, or those of the training noise where not given. Throws `Error` as `checked_range` does.
inline SigmaRange sigma_range(std::string_view schedule, const DiscreteSchedule& training,
                              const std::optional<double>& sigma_min, const std::optional<double>& sigma_max) {
  return checked_range(schedule, {sigma_min.value_or(training.sigma_min()), sigma_max.value_or(training.sigma_max())});
}

/// n noise levels, `level_at(share)` for shares evenly spaced from 0 to 1 (just 0 if n is 1), then 0. Throws `Error`
/// for n < 1 and, naming `schedule`, if two levels coincide.
template <class LevelAt>
std::vector<double> spaced_sigmas(std::string_view schedule, std::int64_t n, LevelAt level_at) {
  require_steps(n);
  std::vector<double> levels;
  levels.reserve(static_cast<std::size_t>(n) + 1);
  for (std::int64_t i = 0; i < n; ++i) {
    const double level = level_at(n == 1 ? 0.0 : static_cast<double>(i) / static_cast<double>(n - 1));
    require(levels.empty() || level < levels.back(), "{}: expected distinct noise levels, found {} twice in {} steps",
            schedule, level, n);
    levels.push_back(level);
  }
  levels.push_back(0.0);
  return levels;
}

}  // namespace ip2p::detail
