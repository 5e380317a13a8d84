#pragma once

/// \file
/// Euler's method on the probability-flow ODE.

#include <optional>
#include <span>
#include <string_view>

#include "ip2p/sampling/churn.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Integrates dx/dsigma = (x - x0) / sigma. One evaluation per step; noise only if `churn` is set. Order 1.
///
/// Reference: k-diffusion `sample_euler`, diffusers `EulerDiscreteScheduler`.
struct Euler {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "euler";

  Churn churn{};  ///< Noise added before each step; none by default.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for invalid noise levels or
  /// parameters and for a denoiser whose result has the wrong shape or dtype, `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    churn.check("Euler");
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const double raised = churn.raise(x, step, rng);
      const at::Tensor x0 = estimate_x0(denoiser, x, evaluated_at(step, raised));
      x = euler_step(x, x0, raised, step.sigma_next);
      x = hooks.finish(step, x);
    }
    return x;
  }

  /// To the next noise level; nothing where `churn` may raise it first. \throws Error as `sample`
  [[nodiscard]] std::optional<EulerForm> euler_form(const Step& step) const {
    churn.check("Euler");
    if (churn.s_churn != 0.0) return std::nullopt;
    return EulerForm{.down = step.sigma_next};
  }
};

static_assert(EulerFamilySampler<Euler>);

}  // namespace ip2p
