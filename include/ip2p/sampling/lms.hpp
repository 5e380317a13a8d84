#pragma once

/// \file
/// The linear multistep method of Adams and Bashforth on the probability-flow ODE.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/interpolation.hpp"

namespace ip2p {

/// The slopes of the last `order` steps, as a polynomial in sigma, integrated over the step; the first steps have fewer
/// slopes. One evaluation a step, no noise. The first, Euler's, step keeps the whole run at order 2 unless it is small
/// (docs/explanation/sampler-orders.md).
///
/// Reference: k-diffusion `sample_lms`, diffusers `LMSDiscreteScheduler` (both order 4).
struct Lms {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "lms";

  std::int64_t order = 4;  ///< Slopes that a step uses, 1 to 4; 1 is Euler's method.

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for unsound noise levels or
  /// parameters or a denoiser that answers another shape or dtype, `Cancelled` when a stop is requested.
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
