#pragma once

/// \file
/// The schedule of Karras et al., "Elucidating the design space of diffusion-based generative models", 2022.

#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/schedule/spaced_sigmas.hpp"

namespace ip2p {

namespace detail {

/// Equation (5) between the ends of `range`, then 0. Throws `Error` naming `schedule` for n < 1 or rho <= 0.
inline std::vector<double> karras_sigmas(std::string_view schedule, std::int64_t n, SigmaRange range, double rho) {
  require(std::isfinite(rho) && rho > 0.0, "{}: expected rho > 0, found {}", schedule, rho);
  const double from = std::pow(range.max, 1.0 / rho);
  const double to = std::pow(range.min, 1.0 / rho);
  return spaced_sigmas(schedule, n, [&](double share) { return std::pow(from + share * (to - from), rho); });
}

}  // namespace detail

/// Equation (5): sigma_i = (s_max^(1/rho) + i/(n-1) (s_min^(1/rho) - s_max^(1/rho)))^rho, then 0. Larger rho places
/// more steps at low noise; the paper uses 7.
///
/// Reference: k-diffusion `get_sigmas_karras`.
struct KarrasSigmas {
  /// Its name for `AnySchedule`.
  static constexpr std::string_view name = "karras";

  DiscreteSchedule training{};        ///< Noise levels that the model was trained on.
  double rho = 7.0;                   ///< Larger values place more steps at low noise; > 0.
  std::optional<double> sigma_min{};  ///< s_min, > 0; defaults to the lowest level the model was trained on.
  std::optional<double> sigma_max{};  ///< s_max; defaults to the highest level the model was trained on.
  /// If set, s_max and s_min are the first and the last level of its runs, and it says how noise is scaled to the
  /// first, as in diffusers.
  std::optional<LinearSigmas> ends{};

  /// Over the model's own training noise, the rest as published.
  static KarrasSigmas from_config(const SchedulerConfig& config) {
    return {.training = DiscreteSchedule(config.noise)};
  }

  /// n + 1 noise levels. Throws `Error` for n < 1, rho <= 0 or ends out of range.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    if (ends) {
      auto visited = ends->sigmas(n);
      if (n == 1) return visited;
      return detail::karras_sigmas("KarrasSigmas", n, {visited[visited.size() - 2], visited.front()}, rho);
    }
    return detail::karras_sigmas("KarrasSigmas", n, detail::sigma_range("KarrasSigmas", training, sigma_min, sigma_max),
                                 rho);
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

static_assert(SchedulePolicy<KarrasSigmas>);

}  // namespace ip2p
