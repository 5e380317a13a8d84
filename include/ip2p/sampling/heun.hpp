#pragma once

/// \file
/// Heun's method on the probability-flow ODE.

#include <span>
#include <string_view>

#include "ip2p/sampling/churn.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Karras et al. 2022, algorithm 2: an Euler step, repeated with the mean of the slopes at both ends. Two evaluations
/// per step, one in the step that reaches 0; noise only if `churn` is set. Order 2.
///
/// Reference: k-diffusion `sample_heun`, diffusers `HeunDiscreteScheduler`.
struct Heun {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "heun";

  Churn churn{};  ///< Noise added before each step; none by default.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for invalid noise levels or
  /// parameters and for a denoiser whose result has the wrong shape or dtype, `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    churn.check("Heun");
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const double raised = churn.raise(x, step, rng);
      const at::Tensor x0 = estimate_x0(denoiser, x, evaluated_at(step, raised));
      at::Tensor next = euler_step(x, x0, raised, step.sigma_next);
      if (step.sigma_next > 0.0) {
        const at::Tensor x0_next = estimate_x0(denoiser, next, evaluated_at(step, step.sigma_next));
        const at::Tensor slopes = ode_derivative(x, x0, raised).add(ode_derivative(next, x0_next, step.sigma_next));
        next = x.add(slopes, 0.5 * (step.sigma_next - raised));
      }
      x = hooks.finish(step, next);
    }
    return x;
  }
};

static_assert(SamplerPolicy<Heun>);

}  // namespace ip2p
