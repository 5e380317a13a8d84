#pragma once

/// \file
/// Euler's method with ancestral noise, the sampler of the published InstructPix2Pix results.

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// How an ancestral step from one noise level to a lower one divides into a deterministic part and fresh noise.
struct AncestralStep {
  double down;  ///< Noise level that the deterministic part goes to.
  double up;    ///< Standard deviation of the noise added there; down^2 + up^2 = sigma_next^2.
};

/// k-diffusion's `get_ancestral_step`: up = min(s', eta sqrt(s'^2 (s^2 - s'^2) / s^2)), down = sqrt(s'^2 - up^2).
/// eta 1 is the posterior variance of DDPM, 0 is deterministic.
inline AncestralStep ancestral_step(double sigma, double sigma_next, double eta) {
  const double s2 = sigma * sigma;
  const double next2 = sigma_next * sigma_next;
  const double up = std::min(sigma_next, eta * std::sqrt(next2 * (s2 - next2) / s2));
  return {.down = std::sqrt(std::max(0.0, next2 - up * up)), .up = up};
}

/// A Euler step to `down`, then noise of deviation `up`; no noise in the step that reaches 0.
///
/// Reference: k-diffusion `sample_euler_ancestral`, diffusers `EulerAncestralDiscreteScheduler` (eta 1, s_noise 1).
struct EulerAncestral {
  static constexpr std::string_view name = "euler-ancestral";

  double eta = 1.0;      ///< Share of ancestral noise, >= 0.
  double s_noise = 1.0;  ///< Factor of the added noise, >= 0.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0; step i adds draw i + 1 of `rng`. Throws
  /// `Error` for unsound noise levels or parameters or a denoiser that answers another shape or dtype, `Cancelled` when
  /// a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    require(std::isfinite(eta) && eta >= 0.0, "EulerAncestral: expected eta >= 0, found {}", eta);
    require(std::isfinite(s_noise) && s_noise >= 0.0, "EulerAncestral: expected s_noise >= 0, found {}", s_noise);
    for (const Step& at : steps_of(sigmas)) {
      hooks.check(at);
      const at::Tensor x0 = denoise(denoiser, x, at);
      const auto [down, up] = ancestral_step(at.sigma, at.sigma_next, eta);
      x = euler_step(x, x0, at.sigma, down);
      if (up > 0.0) x = x.add(step_noise(rng, x, at), s_noise * up);
      x = hooks.finish(at, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<EulerAncestral>);

}  // namespace ip2p
