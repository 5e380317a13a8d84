#pragma once

/// \file
/// Euler's method with ancestral noise, the sampler used for the published InstructPix2Pix results.

#include <optional>
#include <span>
#include <string_view>

#include "ip2p/sampling/ancestral_step.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// An Euler step to `down`, then noise of standard deviation `up`; the step that reaches 0 adds none.
///
/// Reference: k-diffusion `sample_euler_ancestral`, diffusers `EulerAncestralDiscreteScheduler` (eta 1, s_noise 1).
struct EulerAncestral {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "euler-ancestral";

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
    check();
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const at::Tensor x0 = estimate_x0(denoiser, x, step);
      const auto [down, up] = ancestral_step(step.sigma, step.sigma_next, eta);
      x = euler_step(x, x0, step.sigma, down);
      if (up > 0.0) x = x.add(step_noise(rng, x, step), s_noise * up);
      x = hooks.finish(step, x);
    }
    return x;
  }

  /// To `down`, then noise. \throws Error as `sample`
  [[nodiscard]] std::optional<EulerForm> euler_form(const Step& step) const {
    check();
    const auto [down, up] = ancestral_step(step.sigma, step.sigma_next, eta);
    return EulerForm{.down = down, .up = s_noise * up};
  }

 private:
  void check() const {
    require_not_negative("EulerAncestral", "eta", eta);
    require_not_negative("EulerAncestral", "s_noise", s_noise);
  }
};

static_assert(EulerFamilySampler<EulerAncestral>);

}  // namespace ip2p
