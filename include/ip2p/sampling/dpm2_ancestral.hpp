#pragma once

/// \file
/// DPM-Solver-2 with ancestral noise.

#include <span>
#include <string_view>

#include "ip2p/sampling/ancestral_step.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/dpm2.hpp"

namespace ip2p {

/// A `Dpm2` step to the level `down` of an ancestral step, then noise of standard deviation `up`; the step that reaches
/// 0 adds none.
///
/// Reference: k-diffusion `sample_dpm_2_ancestral`.
struct Dpm2Ancestral {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "dpm2-ancestral";

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
    require_not_negative("Dpm2Ancestral", "eta", eta);
    require_not_negative("Dpm2Ancestral", "s_noise", s_noise);
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const at::Tensor x0 = estimate_x0(denoiser, x, step);
      const auto [down, up] = ancestral_step(step.sigma, step.sigma_next, eta);
      x = detail::midpoint_step(denoiser, x, x0, step, step.sigma, down);
      if (up > 0.0) x = x.add(step_noise(rng, x, step), s_noise * up);
      x = hooks.finish(step, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<Dpm2Ancestral>);

}  // namespace ip2p
