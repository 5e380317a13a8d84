#pragma once

/// \file
/// DPM-Solver++(2S) with ancestral noise.

#include <cmath>
#include <span>
#include <string_view>

#include "ip2p/sampling/ancestral_step.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Lu et al., "DPM-Solver++", 2022, algorithm 1 with the intermediate level at the geometric mean: an Euler step to
/// that level, then the whole step towards the estimate found there. Two evaluations per step, one in the step that
/// reaches 0. As in the other ancestral samplers, the deterministic part goes to the level `down` and noise of standard
/// deviation `up` is added. With eta = 0 it is the paper's algorithm, of order 2.
///
/// Reference: k-diffusion `sample_dpmpp_2s_ancestral`; for eta 0 diffusers `DPMSolverSinglestepScheduler` (order 2).
struct DpmPlusPlus2SAncestral {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "dpm++-2s-ancestral";

  double eta = 1.0;      ///< Share of ancestral noise, >= 0.
  double s_noise = 1.0;  ///< Multiplier of the added noise, >= 0.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Step i adds draw i + 1 of `rng`. Throws
  /// `Error` for invalid noise levels or parameters and for a denoiser whose result has the wrong shape or dtype,
  /// `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    require_not_negative("DpmPlusPlus2SAncestral", "eta", eta);
    require_not_negative("DpmPlusPlus2SAncestral", "s_noise", s_noise);
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      at::Tensor x0 = estimate_x0(denoiser, x, step);
      const auto [down, up] = ancestral_step(step.sigma, step.sigma_next, eta);
      if (down > 0.0) {
        const double middle = std::sqrt(step.sigma * down);
        x0 = estimate_x0(denoiser, euler_step(x, x0, step.sigma, middle), evaluated_at(step, middle));
      }
      x = euler_step(x, x0, step.sigma, down);
      if (up > 0.0) x = x.add(step_noise(rng, x, step), s_noise * up);
      x = hooks.finish(step, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<DpmPlusPlus2SAncestral>);

}  // namespace ip2p
