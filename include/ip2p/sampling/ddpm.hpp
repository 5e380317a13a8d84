#pragma once

/// \file
/// Denoising diffusion probabilistic models.

#include <cmath>
#include <optional>
#include <span>
#include <string_view>

#include "ip2p/sampling/ancestral_step.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// The variance of the noise that `Ddpm` adds (section 3.2 of the paper).
enum class DdpmVariance {
  fixed_small,  ///< The variance of the posterior given x0: optimal for data that is a single point.
  fixed_large   ///< beta_t, the variance of the forward step: optimal for normally distributed data of variance 1.
};

/// Ho et al., "Denoising diffusion probabilistic models", 2020, algorithm 2: each step goes to the posterior mean, then
/// adds noise of one of two variances, except in the step that reaches 0. With `fixed_small` it is the same as
/// `EulerAncestral` with eta = 1.
///
/// Reference: diffusers `DDPMScheduler`, for `LinearSigmas` with `unit_variance_start`. With the large variance and a
/// last timestep other than 0, diffusers adds noise in the last step too; this sampler, like the paper, does not.
struct Ddpm {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "ddpm";

  DdpmVariance variance = DdpmVariance::fixed_small;  ///< Variance of the added noise.

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
      const at::Tensor x0 = estimate_x0(denoiser, x, step);
      const auto [down, small] = ancestral_step(step.sigma, step.sigma_next, 1.0);
      x = euler_step(x, x0, step.sigma, down);
      const double up = variance == DdpmVariance::fixed_small ? small : large(step.sigma, step.sigma_next);
      if (step.sigma_next > 0.0) x = x.add(step_noise(rng, x, step), up);
      x = hooks.finish(step, x);
    }
    return x;
  }

  /// To the posterior mean, then noise.
  [[nodiscard]] std::optional<EulerForm> euler_form(const Step& step) const {
    const auto [down, small] = ancestral_step(step.sigma, step.sigma_next, 1.0);
    if (step.sigma_next == 0.0) return EulerForm{.down = down};
    return EulerForm{.down = down,
                     .up = variance == DdpmVariance::fixed_small ? small : large(step.sigma, step.sigma_next)};
  }

 private:
  /// beta = 1 - alpha_bar / alpha_bar' = (s^2 - s'^2) / (1 + s^2), converted to a standard deviation in latents scaled
  /// by sqrt(1 + s'^2).
  static double large(double sigma, double next) {
    return std::sqrt((sigma * sigma - next * next) * (1.0 + next * next) / (1.0 + sigma * sigma));
  }
};

static_assert(EulerFamilySampler<Ddpm>);

}  // namespace ip2p
