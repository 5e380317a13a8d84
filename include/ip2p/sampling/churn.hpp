#pragma once

/// \file
/// The stochastic part of Karras et al., "Elucidating the design space of diffusion-based generative models", 2022.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string_view>

#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// The noise of algorithm 2: before a step, fresh noise raises the latents to a higher noise level. By default it does
/// nothing and draws no noise. Section 4 of the paper gives values per data set.
///
/// Reference: k-diffusion `sample_euler`, `sample_heun`, `sample_dpm_2`.
struct Churn {
  double s_churn = 0.0;  ///< Total amount over the run, >= 0; a step raises its level at most by a factor of sqrt(2).
  double s_tmin = 0.0;   ///< Lowest noise level that is raised, >= 0.
  double s_tmax = std::numeric_limits<double>::infinity();  ///< Highest noise level that is raised.
  double s_noise = 1.0;                                     ///< Multiplier of the added noise, >= 0.

  /// Throws `Error` naming `sampler` for parameters out of range.
  void check(std::string_view sampler) const {
    require_not_negative(sampler, "s_churn", s_churn);
    require_not_negative(sampler, "s_tmin", s_tmin);
    require(s_tmax >= s_tmin, "{}: expected s_tmax >= s_tmin, found {} and {}", sampler, s_tmax, s_tmin);
    require_not_negative(sampler, "s_noise", s_noise);
  }

  /// Replaces x at noise level step.sigma by x at the returned level, step.sigma or higher; noise is draw index + 1.
  template <class Noise>
  double raise(at::Tensor& x, const Step& step, Noise& rng) const {
    if (s_churn == 0.0 || step.sigma < s_tmin || step.sigma > s_tmax) return step.sigma;
    const double raised =
        step.sigma * (1.0 + std::min(s_churn / static_cast<double>(step.count), std::numbers::sqrt2 - 1.0));
    x = x.add(step_noise(rng, x, step), s_noise * std::sqrt(raised * raised - step.sigma * step.sigma));
    return raised;
  }
};

}  // namespace ip2p
