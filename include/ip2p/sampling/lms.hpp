#pragma once

/// \file
/// The Adams-Bashforth linear multistep method on the probability-flow ODE.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/interpolation.hpp"

namespace ip2p {

/// Fits a polynomial in sigma to the slopes of the last `order` steps (fewer at the start) and integrates it over the
/// step. One evaluation per step, no noise. Because the first step is Euler's, the whole run has order 2 unless that
/// step is small (docs/explanation/sampler-orders.md).
///
/// Reference: k-diffusion `sample_lms`, diffusers `LMSDiscreteScheduler` (both order 4).
struct Lms {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "lms";

  std::int64_t order = 4;  ///< Number of slopes used per step, 1 to 4; 1 is Euler's method.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for invalid noise levels or
  /// parameters and for a denoiser whose result has the wrong shape or dtype, `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, [[maybe_unused]] Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    require(order >= 1 && order <= 4, "Lms: expected order 1 to 4, found {}", order);
    constexpr std::array<double, 4> integrals{1.0, 1.0 / 2.0, 1.0 / 3.0, 1.0 / 4.0};  // of u^i over [0, 1]
    std::vector<at::Tensor> slopes;                                                   // newest first
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      slopes.insert(slopes.begin(), ode_derivative(x, estimate_x0(denoiser, x, step), step.sigma));
      if (slopes.size() > static_cast<std::size_t>(order)) slopes.pop_back();
      const double length = step.sigma_next - step.sigma;
      std::vector<double> nodes;  // where the slopes were taken, in units of this step
      for (std::size_t k = 0; k < slopes.size(); ++k) {
        nodes.push_back((sigmas[static_cast<std::size_t>(step.index) - k] - step.sigma) / length);
      }
      const std::vector<double> weights = detail::interpolation_weights(nodes, integrals);
      for (std::size_t k = 0; k < slopes.size(); ++k) x = x.add(slopes[k], length * weights[k]);
      x = hooks.finish(step, x);
    }
    return x;
  }
};

static_assert(SamplerPolicy<Lms>);

}  // namespace ip2p
