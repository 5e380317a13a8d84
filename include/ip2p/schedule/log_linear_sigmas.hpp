#pragma once

/// \file
/// The schedule of the released InstructPix2Pix code.

#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// Noise levels at n timesteps evenly spaced from N - 1 down to 0, interpolated linearly in log sigma, then 0.
///
/// Reference: k-diffusion `DiscreteSchedule.get_sigmas(n)`, which the released code calls although the paper mentions
/// Karras's schedule. A run of one step starts at the noisiest level.
struct LogLinearSigmas {
  /// Its name for `AnySchedule`.
  static constexpr std::string_view name = "log-linear";

  DiscreteSchedule training{};  ///< Noise levels that the model was trained on.

  /// Over the model's own training noise, the rest as published.
  static LogLinearSigmas from_config(const SchedulerConfig& config) { return {DiscreteSchedule(config.noise)}; }

  /// n + 1 noise levels. Throws `Error` for n < 1.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    detail::require_steps(n);
    const auto last = static_cast<double>(training.timesteps() - 1);
    std::vector<double> levels;
    levels.reserve(static_cast<std::size_t>(n) + 1);
    for (std::int64_t i = 0; i < n; ++i) {
      const double share = n == 1 ? 1.0 : static_cast<double>(n - 1 - i) / static_cast<double>(n - 1);
      levels.push_back(training.t_to_sigma(last * share));
    }
    levels.push_back(0.0);
    return levels;
  }

  /// Fractional timestep of a noise level, linear in log sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const { return training.sigma_to_t(sigma); }
};

static_assert(SchedulePolicy<LogLinearSigmas>);

}  // namespace ip2p
