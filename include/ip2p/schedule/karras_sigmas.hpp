#pragma once

/// \file
/// The schedule of Karras et al., "Elucidating the design space of diffusion-based generative models", 2022.

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// Equation (5): sigma_i = (s_max^(1/rho) + i/(n-1) (s_min^(1/rho) - s_max^(1/rho)))^rho between the ends of the
/// training's range, then 0. Larger rho places more steps at low noise; the paper uses 7.
struct KarrasSigmas {
  static constexpr std::string_view name = "karras";

  DiscreteSchedule training{};  ///< Noise levels that the model was trained on; their ends are s_min and s_max.
  double rho = 7.0;             ///< > 0.

  static KarrasSigmas from_config(const SchedulerConfig& config) {
    return {.training = DiscreteSchedule(config.noise)};
  }

  /// n + 1 noise levels. Throws `Error` for n < 1 or rho <= 0.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    detail::require_steps(n);
    require(std::isfinite(rho) && rho > 0.0, "KarrasSigmas: expected rho > 0, found {}", rho);
    const double from = std::pow(training.sigma_max(), 1.0 / rho);
    const double to = std::pow(training.sigma_min(), 1.0 / rho);
    std::vector<double> levels;
    levels.reserve(static_cast<std::size_t>(n) + 1);
    for (std::int64_t i = 0; i < n; ++i) {
      const double share = n == 1 ? 0.0 : static_cast<double>(i) / static_cast<double>(n - 1);
      levels.push_back(std::pow(from + share * (to - from), rho));
    }
    levels.push_back(0.0);
    return levels;
  }

  /// Fractional timestep of a noise level, linear in log sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const { return training.sigma_to_t(sigma); }
};

static_assert(SchedulePolicy<KarrasSigmas>);

}  // namespace ip2p
