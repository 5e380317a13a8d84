#pragma once

/// \file
/// DPM-Solver-2 on the probability-flow ODE.

#include <cmath>
#include <span>
#include <string_view>

#include "ip2p/sampling/churn.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

namespace detail {

/// Takes x from noise level `from` to `to`, using the slope at their geometric mean. For to = 0 there is no such mean
/// and it takes an Euler step. \param x0 the estimate at x
template <class Denoiser>
at::Tensor midpoint_step(Denoiser& denoiser, const at::Tensor& x, const at::Tensor& x0, const Step& step, double from,
                         double to) {
  if (to == 0.0) return x0;
  const double middle = std::sqrt(from * to);
  const at::Tensor half = euler_step(x, x0, from, middle);
  return x.add(ode_derivative(half, estimate_x0(denoiser, half, evaluated_at(step, middle)), middle), to - from);
}

}  // namespace detail

/// Lu et al., "DPM-Solver", 2022, algorithm 1 with r_1 = 1/2: the whole step uses the slope at the geometric mean of
/// its two noise levels. Two evaluations per step, one in the step that reaches 0; noise only if `churn` is set.
/// Order 2.
///
/// Reference: k-diffusion `sample_dpm_2`, diffusers `KDPM2DiscreteScheduler`.
struct Dpm2 {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "dpm2";

  Churn churn{};  ///< Noise added before each step; none by default.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for invalid noise levels or
  /// parameters and for a denoiser whose result has the wrong shape or dtype, `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    churn.check("Dpm2");
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const double raised = churn.raise(x, step, rng);
      const at::Tensor x0 = estimate_x0(denoiser, x, evaluated_at(step, raised));
      x = detail::midpoint_step(denoiser, x, x0, step, raised, step.sigma_next);
      x = hooks.finish(step, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<Dpm2>);

}  // namespace ip2p
