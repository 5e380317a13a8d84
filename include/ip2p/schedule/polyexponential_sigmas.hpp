#pragma once

/// \file
/// Noise levels on a power curve in log sigma.

#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/schedule/spaced_sigmas.hpp"

namespace ip2p {

namespace detail {

/// log sigma = log s_min + (1 - i/(n-1))^rho (log s_max - log s_min), then 0. Throws `Error` naming `schedule` for n <
/// 1 or rho <= 0.
inline std::vector<double> polyexponential_sigmas(std::string_view schedule, std::int64_t n, SigmaRange range,
                                                  double rho) {
  require(std::isfinite(rho) && rho > 0.0, "{}: expected rho > 0, found {}", schedule, rho);
  const double low = std::log(range.min);
  const double length = std::log(range.max) - low;
  return spaced_sigmas(schedule, n, [&](double share) { return std::exp(low + std::pow(1.0 - share, rho) * length); });
}

}  // namespace detail

/// log sigma = log s_min + (1 - i/(n-1))^rho (log s_max - log s_min), then 0. Larger rho places more steps at low
/// noise; rho = 1, the reference's default, is the same as `ExponentialSigmas`.
///
/// Reference: k-diffusion `get_sigmas_polyexponential`.
struct PolyexponentialSigmas {
  /// Its name for `AnySchedule`.
  static constexpr std::string_view name = "polyexponential";

  DiscreteSchedule training{};        ///< Noise levels that the model was trained on.
  double rho = 1.0;                   ///< Exponent, > 0.
  std::optional<double> sigma_min{};  ///< s_min, > 0; defaults to the lowest level the model was trained on.
  std::optional<double> sigma_max{};  ///< s_max; defaults to the highest level the model was trained on.

  /// Over the model's own training noise, the rest as published.
  static PolyexponentialSigmas from_config(const SchedulerConfig& config) {
    return {.training = DiscreteSchedule(config.noise)};
  }

  /// n + 1 noise levels. Throws `Error` for n < 1, rho <= 0, ends out of range, or a rho that makes levels coincide.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    return detail::polyexponential_sigmas(
        "PolyexponentialSigmas", n, detail::sigma_range("PolyexponentialSigmas", training, sigma_min, sigma_max), rho);
  }

  /// Fractional timestep of a noise level, linear in log sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const { return training.sigma_to_t(sigma); }
};

static_assert(SchedulePolicy<PolyexponentialSigmas>);

}  // namespace ip2p
