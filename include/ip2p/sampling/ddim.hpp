#pragma once

/// \file
/// Denoising diffusion implicit models.

#include <cmath>
#include <optional>
#include <span>
#include <string_view>

#include "ip2p/sampling/ancestral_step.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Song et al., "Denoising diffusion implicit models", 2021, equation (12). In latents scaled by sqrt(1 + sigma^2) it
/// is an Euler step with eta times the ancestral noise: 0 is deterministic, 1 gives the posterior variance of DDPM.
///
/// Some published configurations (`set_alpha_to_one: false`, as in Stable Diffusion) end not at 0 but at the noise
/// level of timestep 0, and decode the variance-preserving latent x / sqrt(1 + sigma^2). To reproduce that, set
/// `final_sigma` to the model's `sigma_min()`. The result is then not noise-free, and not exact for a point mass.
///
/// Reference: diffusers `DDIMScheduler`, for `LinearSigmas` with `unit_variance_start` and spacing `leading` or
/// `trailing`. With `linspace`, unlike here, diffusers' steps end at a different level from the one evaluated next.
struct Ddim {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "ddim";

  double eta = 0.0;          ///< Share of ancestral noise, 0 to 1.
  double final_sigma = 0.0;  ///< Noise level at the end of the last step, from 0 to the level that it starts at.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0 (or as `final_sigma` says). Step i adds draw
  /// i + 1 of `rng`. Throws `Error` for invalid noise levels or parameters and for a denoiser whose result has the
  /// wrong shape or dtype, `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    check();
    const double last = sigmas[sigmas.size() - 2];
    require(final_sigma >= 0.0 && final_sigma <= last,
            "Ddim: expected final_sigma from 0 to the last noise level {}, found {}", last, final_sigma);
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const at::Tensor x0 = estimate_x0(denoiser, x, step);
      const double to = step.sigma_next > 0.0 ? step.sigma_next : final_sigma;
      const auto [down, up] = ancestral_step(step.sigma, to, eta);
      x = euler_step(x, x0, step.sigma, down);
      if (up > 0.0) x = x.add(step_noise(rng, x, step), up);
      if (step.sigma_next == 0.0 && to > 0.0) x = x.div(std::sqrt(1.0 + to * to));
      x = hooks.finish(step, x);
    }
    return x;
  }

  /// As the ancestral step; nothing where the run does not end at 0. \throws Error as `sample`
  [[nodiscard]] std::optional<EulerForm> euler_form(const Step& step) const {
    check();
    if (final_sigma != 0.0) return std::nullopt;
    const auto [down, up] = ancestral_step(step.sigma, step.sigma_next, eta);
    return EulerForm{.down = down, .up = up};
  }

 private:
  void check() const { require(eta >= 0.0 && eta <= 1.0, "Ddim: expected eta from 0 to 1, found {}", eta); }
};

static_assert(EulerFamilySampler<Ddim>);

}  // namespace ip2p
