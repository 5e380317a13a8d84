#pragma once

/// \file
/// The schedule for networks trained as in Karras et al. 2022.

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/karras_sigmas.hpp"

namespace ip2p {

/// Equation (5) of the paper between two given noise levels, for networks that take c_noise = ln(sigma) / 4 instead of
/// a timestep (table 1). Use it with `EdmPrediction`.
struct EdmSigmas {
  /// Its name, for an `AnyScheduleOf` that lists it.
  static constexpr std::string_view name = "edm";

  double sigma_min = 0.002;  ///< Lowest noise level before 0, > 0.
  double sigma_max = 80.0;   ///< Highest noise level, > sigma_min.
  double rho = 7.0;          ///< Larger values place more steps at low noise; > 0.

  /// n + 1 noise levels. Throws `Error` for n < 1 or parameters out of range.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    return detail::karras_sigmas("EdmSigmas", n, detail::checked_range("EdmSigmas", {sigma_min, sigma_max}), rho);
  }

  /// c_noise = ln(sigma) / 4, negative for sigma < 1. Throws `Error` unless sigma is finite and positive.
  [[nodiscard]] double sigma_to_t(double sigma) const {
    require(std::isfinite(sigma) && sigma > 0.0, "sigma: expected a finite value > 0, found {}", sigma);
    return std::log(sigma) / 4.0;
  }
};

static_assert(SchedulePolicy<EdmSigmas>);

}  // namespace ip2p
