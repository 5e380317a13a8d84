#pragma once

/// \file
/// DPM-Solver++(3M) for the reverse SDE.

#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Like `DpmPlusPlus2MSde` with `heun`, but x0 is extrapolated from the estimates of three steps. One evaluation per
/// step. The step that reaches 0 adds no noise and returns its own estimate.
///
/// The published code gives the second difference of x0 half the weight that Taylor's theorem requires, so with eta = 0
/// it only converges with order 2; `curvature` = 2 raises that to 3 (docs/explanation/sampler-orders.md).
///
/// Reference: k-diffusion `sample_dpmpp_3m_sde` with independent noise in each step; with eta = 0, diffusers
/// `DPMSolverMultistepScheduler` (order 3, heun).
struct DpmPlusPlus3MSde {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "dpm++-3m-sde";

  double eta = 1.0;        ///< Noise, >= 0: 1 is the reverse SDE itself, 0 the probability-flow ODE.
  double s_noise = 1.0;    ///< Multiplier of the added noise, >= 0.
  double curvature = 1.0;  ///< Weight of the second difference of x0, >= 0: 1 as published, 2 by Taylor's theorem.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Step i adds draw i + 1 of `rng`. Throws
  /// `Error` for invalid noise levels or parameters and for a denoiser whose result has the wrong shape or dtype,
  /// `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    require_not_negative("DpmPlusPlus3MSde", "eta", eta);
    require_not_negative("DpmPlusPlus3MSde", "s_noise", s_noise);
    require_not_negative("DpmPlusPlus3MSde", "curvature", curvature);
    struct Earlier {
      at::Tensor x0;
      double length;  // of that step, in log sigma
    };
    std::vector<Earlier> earlier;  // newest first
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const at::Tensor x0 = estimate_x0(denoiser, x, step);
      if (step.sigma_next == 0.0) {
        x = x0;
      } else {
        const double length = std::log(step.sigma / step.sigma_next);
        const double decay = (1.0 + eta) * length;
        x = x0.add(x.sub(x0), std::exp(-decay));
        const double linear = 1.0 + std::expm1(-decay) / decay;
        if (!earlier.empty()) {
          const double r0 = earlier[0].length / length;
          at::Tensor first = x0.sub(earlier[0].x0).div(r0);
          if (earlier.size() > 1) {
            const double r1 = earlier[1].length / length;
            const at::Tensor second = first.sub(earlier[0].x0.sub(earlier[1].x0).div(r1)).div(r0 + r1);
            first = first.add(second, r0);
            x = x.add(second, curvature * (0.5 - linear / decay));
          }
          x = x.add(first, linear);
        }
        const double noise = step.sigma_next * std::sqrt(-std::expm1(-2.0 * eta * length));
        if (noise > 0.0) x = x.add(step_noise(rng, x, step), s_noise * noise);
        earlier.insert(earlier.begin(), {x0, length});
        if (earlier.size() > 2) earlier.pop_back();
      }
      x = hooks.finish(step, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<DpmPlusPlus3MSde>);

}  // namespace ip2p
