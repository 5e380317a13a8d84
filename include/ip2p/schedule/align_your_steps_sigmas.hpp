#pragma once

/// \file
/// Tables of noise levels optimised for a particular model.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// A table of noise levels, interpolated linearly in log sigma if a run has a different number of steps; the last level
/// becomes 0. The default table is from Sabour et al., "Align your steps", 2024, for Stable Diffusion 1.5 in 10 steps.
/// Do not expect optimal results when the number of steps is far from the table's own.
///
/// Reference: the authors' quickstart guide; diffusers `AysSchedules`.
struct AlignYourStepsSigmas {
  /// Its name for `AnySchedule`.
  static constexpr std::string_view name = "align-your-steps";

  DiscreteSchedule training{};  ///< Noise levels that the model was trained on.
  /// Strictly decreasing and positive; at least 2 values, one more than the number of steps it was optimised for.
  std::vector<double> table{14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029};

  /// Over the model's own training noise, the rest as published.
  static AlignYourStepsSigmas from_config(const SchedulerConfig& config) {
    return {.training = DiscreteSchedule(config.noise)};
  }

  /// n + 1 noise levels. Throws `Error` for n < 1 or an invalid table.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    detail::require_steps(n);
    require(table.size() >= 2, "AlignYourStepsSigmas: expected a table of at least 2 noise levels, found {}",
            table.size());
    for (std::size_t i = 0; i < table.size(); ++i) {
      require(std::isfinite(table[i]) && table[i] > 0.0 && (i == 0 || table[i] < table[i - 1]),
              "AlignYourStepsSigmas: expected a table that falls strictly and stays above 0, found {} at place {}",
              table[i], i);
    }
    std::vector<double> levels;
    levels.reserve(static_cast<std::size_t>(n) + 1);
    for (std::int64_t i = 0; i < n; ++i) {
      const double place = static_cast<double>(i) * static_cast<double>(table.size() - 1) / static_cast<double>(n);
      const auto low = static_cast<std::size_t>(place);
      const double share = place - std::floor(place);
      levels.push_back(table[low] * std::pow(table[low + 1] / table[low], share));
    }
    levels.push_back(0.0);
    return levels;
  }

  /// Fractional timestep of a noise level, linear in log sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const { return training.sigma_to_t(sigma); }
};

static_assert(SchedulePolicy<AlignYourStepsSigmas>);

}  // namespace ip2p
