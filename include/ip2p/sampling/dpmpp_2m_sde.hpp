#pragma once

/// \file
/// DPM-Solver++(2M) for the reverse SDE.

#include <cmath>
#include <span>
#include <string_view>

#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// How `DpmPlusPlus2MSde` weights the change of x0 over a step.
enum class SdeSolver {
  midpoint,  ///< By its value in the middle of the step.
  heun       ///< By the exact integral of a linear change.
};

/// Lu et al., "DPM-Solver++", 2022, SDE-DPM-Solver++(2M), generalised with eta: the linear part of the reverse SDE is
/// solved exactly in log sigma, and x0 is extrapolated from the estimates of two steps. One evaluation per step. The
/// step that reaches 0 adds no noise and returns its own estimate. With eta = 0 and `midpoint` it is DPM-Solver++(2M).
///
/// Reference: k-diffusion `sample_dpmpp_2m_sde` with independent noise in each step; diffusers
/// `DPMSolverMultistepScheduler` with `sde-dpmsolver++` (eta 1).
struct DpmPlusPlus2MSde {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "dpm++-2m-sde";

  double eta = 1.0;      ///< Noise of the reverse SDE, >= 0: 1 is the SDE itself, 0 the probability-flow ODE.
  double s_noise = 1.0;  ///< Factor of the added noise, >= 0.
  SdeSolver solver = SdeSolver::midpoint;  ///< How the change of x0 over a step is weighed.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Step i adds draw i + 1 of `rng`. Throws
  /// `Error` for invalid noise levels or parameters and for a denoiser whose result has the wrong shape or dtype,
  /// `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    require_not_negative("DpmPlusPlus2MSde", "eta", eta);
    require_not_negative("DpmPlusPlus2MSde", "s_noise", s_noise);
    at::Tensor previous;
    double previous_length = 0.0;
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const at::Tensor x0 = estimate_x0(denoiser, x, step);
      if (step.sigma_next == 0.0) {
        x = x0;
      } else {
        const double length = std::log(step.sigma / step.sigma_next);
        const double decay = (1.0 + eta) * length;
        x = x0.add(x.sub(x0), std::exp(-decay));
        if (previous.defined()) {
          const double share =
              solver == SdeSolver::midpoint ? -0.5 * std::expm1(-decay) : 1.0 + std::expm1(-decay) / decay;
          x = x.add(x0.sub(previous), share * length / previous_length);
        }
        const double noise = step.sigma_next * std::sqrt(-std::expm1(-2.0 * eta * length));
        if (noise > 0.0) x = x.add(step_noise(rng, x, step), s_noise * noise);
        previous = x0;
        previous_length = length;
      }
      x = hooks.finish(step, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<DpmPlusPlus2MSde>);

}  // namespace ip2p
