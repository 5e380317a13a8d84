#pragma once

/// \file
/// Multistep sampling of latent consistency models.

#include <span>
#include <string_view>

#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Luo et al., "Latent consistency models", 2023, algorithm 3: each step jumps to the estimate of x0 and adds noise of
/// the next level; none in the step that reaches 0. It is meant for networks distilled to jump, in two to eight steps
/// over `LcmSigmas`; with another network it gives blurred pictures.
///
/// Reference: diffusers `LCMScheduler`, whose boundary factors c_skip and c_out differ from 0 and 1 by less than 7e-6
/// at every timestep of `LcmSigmas` and are left out.
struct Lcm {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "lcm";

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0; step i adds draw i + 1 of `rng`. Throws
  /// `Error` for unsound noise levels or a denoiser that answers another shape or dtype, `Cancelled` when a stop is
  /// requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      x = estimate_x0(denoiser, x, step);
      if (step.sigma_next > 0.0) x = x.add(step_noise(rng, x, step), step.sigma_next);
      x = hooks.finish(step, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<Lcm>);

}  // namespace ip2p
