#pragma once

/// \file
/// Noise levels that fall by a constant factor.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/schedule/polyexponential_sigmas.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/schedule/spaced_sigmas.hpp"

namespace ip2p {

/// Evenly spaced in log sigma from s_max to s_min, then 0.
///
/// Reference: k-diffusion `get_sigmas_exponential`; diffusers' `use_exponential_sigmas`.
struct ExponentialSigmas {
  /// Its name for `AnySchedule`.
  static constexpr std::string_view name = "exponential";

  DiscreteSchedule training{};        ///< Noise levels that the model was trained on.
  std::optional<double> sigma_min{};  ///< s_min, > 0; defaults to the lowest level the model was trained on.
  std::optional<double> sigma_max{};  ///< s_max; defaults to the highest level the model was trained on.
  /// If set, s_max and s_min are the first and the last level of its runs, and it says how noise is scaled to the
  /// first, as in diffusers.
  std::optional<LinearSigmas> ends{};

  /// Over the model's own training noise, the rest as published.
  static ExponentialSigmas from_config(const SchedulerConfig& config) {
    return {.training = DiscreteSchedule(config.noise)};
  }

  /// n + 1 noise levels. Throws `Error` for n < 1 or ends out of range.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    if (ends) {
      auto visited = ends->sigmas(n);
      if (n == 1) return visited;
      return detail::polyexponential_sigmas("ExponentialSigmas", n, {visited[visited.size() - 2], visited.front()},
                                            1.0);
    }
    return detail::polyexponential_sigmas(
        "ExponentialSigmas", n, detail::sigma_range("ExponentialSigmas", training, sigma_min, sigma_max), 1.0);
  }

  /// Fractional timestep of a noise level, linear in log sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const { return training.sigma_to_t(sigma); }

  /// The scale of the initial unit-variance noise: that of `ends`, or the first level. \throws Error for no level
  [[nodiscard]] double initial_sigma(const std::vector<double>& sigmas) const {
    if (ends) return ends->initial_sigma(sigmas);
    require(!sigmas.empty(), "sigmas: expected at least one value, found none");
    return sigmas.front();
  }
};

static_assert(SchedulePolicy<ExponentialSigmas>);

}  // namespace ip2p
