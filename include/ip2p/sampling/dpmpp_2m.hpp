#pragma once

/// \file
/// DPM-Solver++(2M): second order, using the estimates of two steps.

#include <cmath>
#include <span>
#include <string_view>

#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Lu et al., "DPM-Solver++", 2022, algorithm 2: extrapolates x0 to the middle of the step, linearly in log sigma, from
/// this step's estimate and the previous one, then takes an Euler step towards it. One evaluation per step, no noise.
/// The step that reaches 0 returns its own estimate. Order 2.
///
/// Reference: k-diffusion `sample_dpmpp_2m`, diffusers `DPMSolverMultistepScheduler` (order 2, midpoint).
struct DpmPlusPlus2M {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "dpm++-2m";

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for invalid noise levels and
  /// for a denoiser whose result has the wrong shape or dtype, `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, [[maybe_unused]] Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    at::Tensor previous;
    double previous_length = 0.0;
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const at::Tensor x0 = estimate_x0(denoiser, x, step);
      const double length = std::log(step.sigma / step.sigma_next);  // in -log sigma, infinite in the last step
      at::Tensor towards = x0;
      if (previous.defined() && step.sigma_next > 0.0) {
        towards = x0.add(x0.sub(previous), 0.5 * length / previous_length);
      }
      x = euler_step(x, towards, step.sigma, step.sigma_next);
      previous = x0;
      previous_length = length;
      x = hooks.finish(step, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<DpmPlusPlus2M>);

}  // namespace ip2p
