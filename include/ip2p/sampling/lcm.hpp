#pragma once

/// \file
/// Multistep sampling for latent consistency models.

#include <span>
#include <string_view>

#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Luo et al., "Latent consistency models", 2023, algorithm 3: each step jumps to the estimate of x0 and adds noise of
/// the next level, except in the step that reaches 0. It is meant for networks distilled for such jumps, with two to
/// eight steps of `LcmSigmas`; other networks give blurred pictures.
///
/// Reference: diffusers `LCMScheduler`. Its boundary factors c_skip and c_out are omitted: they differ from 0 and 1 by
/// less than 7e-6 at every timestep of `LcmSigmas`.
struct Lcm {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "lcm";

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Step i adds draw i + 1 of `rng`. Throws
  /// `Error` for invalid noise levels and for a denoiser whose result has the wrong shape or dtype, `Cancelled` when a
  /// stop is requested.
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
