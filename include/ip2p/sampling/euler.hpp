#pragma once

/// \file
/// Euler's method on the probability-flow ODE.

#include <span>
#include <string_view>

#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Karras et al. 2022, algorithm 2 without churn: dx/dsigma = (x - x0) / sigma, one evaluation a step, no noise.
///
/// Reference: k-diffusion `sample_euler`, diffusers `EulerDiscreteScheduler`.
struct Euler {
  static constexpr std::string_view name = "euler";

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for unsound noise levels or a
  /// denoiser that answers another shape or dtype, `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, [[maybe_unused]] Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    for (const Step& at : steps_of(sigmas)) {
      hooks.check(at);
      const at::Tensor x0 = denoise(denoiser, x, at);
      x = euler_step(x, x0, at.sigma, at.sigma_next);
      x = hooks.finish(at, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<Euler>);

}  // namespace ip2p
