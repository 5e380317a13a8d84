#pragma once

/// \file
/// UniPC: a multistep predictor with a corrector that needs no extra evaluations.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/interpolation.hpp"

namespace ip2p {

/// The function B(h) of UniPC. It makes a difference when the steps are few and large.
enum class UniPcSolver {
  bh1,  ///< B(h) = h, recommended by the authors for unconditional sampling in few steps.
  bh2   ///< B(h) = e^h - 1.
};

/// Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models", 2023, over
/// estimates of x0. One evaluation per step, at the predicted latents; the next step first uses it to correct them. No
/// noise. The first and last steps use lower orders, and the step that reaches 0 returns its own estimate. The
/// predictor has order p, the corrected run order p + 1.
///
/// The correction is added to the latents, so changes made by `hooks.revise` are kept.
///
/// Reference: diffusers `UniPCMultistepScheduler` (`predict_x0`, `lower_order_final`).
struct UniPc {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "unipc";

  std::int64_t order = 2;                 ///< p, 1 to 3: estimates that a step uses.
  UniPcSolver solver = UniPcSolver::bh2;  ///< The function B(h).

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for invalid noise levels or
  /// parameters and for a denoiser whose result has the wrong shape or dtype, `Cancelled` when a stop is requested.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, [[maybe_unused]] Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    require_run(x, sigmas);
    require(order >= 1 && order <= 3, "UniPc: expected order 1 to 3, found {}", order);
    std::vector<at::Tensor> estimates;  // newest first
    Update update;                      // of the step before
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      const at::Tensor x0 = estimate_x0(denoiser, x, step);
      if (step.index > 0) x = update.correct(x, x0, estimates);
      estimates.insert(estimates.begin(), x0);
      if (estimates.size() > static_cast<std::size_t>(order)) estimates.pop_back();
      update = Update(sigmas, step, std::min({order, step.index + 1, step.count - step.index}), solver);
      x = update.predict(euler_step(x, x0, step.sigma, step.sigma_next), estimates);
      x = hooks.finish(step, x);
    }
    return x;
  }

 private:
  /// One step of length h in -log sigma: x' = x_Euler - B(h) sum_k rho_k (x0_k - x0) / r_k, where estimate k was made
  /// at r_k h after the start of the step.
  class Update {
   public:
    Update() = default;
    Update(std::span<const double> sigmas, const Step& step, std::int64_t order, UniPcSolver solver) {
      if (step.sigma_next == 0.0) return;  // Euler's step ends at the estimate, and nothing follows.
      const double h = std::log(step.sigma / step.sigma_next);
      scale_ = solver == UniPcSolver::bh1 ? -h : std::expm1(-h);
      for (std::int64_t k = 1; k < order; ++k) {
        nodes_.push_back(std::log(step.sigma / sigmas[static_cast<std::size_t>(step.index - k)]) / h);
      }
      // moments_i = i! (-h) phi_{i+1}(-h) / B(h) for i = 1 ... 3, using phi_{i+1}(z) z = phi_i(z) - 1 / i!.
      double phi = std::expm1(-h) / -h;
      double factorial = 1.0;
      for (std::size_t i = 0; i < moments_.size(); ++i) {
        factorial *= static_cast<double>(i + 1);
        const double next = phi - 1.0 / factorial;
        moments_[i] = next * factorial / scale_;
        phi = next / -h;
      }
    }

    /// The predictor, UniP. \param euler the latents after an Euler step
    [[nodiscard]] at::Tensor predict(const at::Tensor& euler, const std::vector<at::Tensor>& estimates) const {
      return add(euler, predictor(), estimates);
    }

    /// The corrector, UniC. \param x the predicted latents  \param x0 the estimate at x
    [[nodiscard]] at::Tensor correct(const at::Tensor& x, const at::Tensor& x0,
                                     const std::vector<at::Tensor>& estimates) const {
      std::vector<double> nodes = nodes_;
      nodes.push_back(1.0);
      std::vector<double> weights =
          nodes_.empty() ? std::vector<double>{0.5} : detail::interpolation_weights(nodes, moments_);
      const at::Tensor corrected = x.add(x0.sub(estimates.front()), -scale_ * weights.back());
      weights.pop_back();
      const std::vector<double> predicted = predictor();
      for (std::size_t k = 0; k < weights.size(); ++k) weights[k] -= predicted[k];
      return add(corrected, weights, estimates);
    }

   private:
    [[nodiscard]] std::vector<double> predictor() const {
      // A single weight is 1/2 for any h, as in the authors' code.
      if (nodes_.size() == 1) return {0.5};
      return detail::interpolation_weights(nodes_, moments_);
    }

    [[nodiscard]] at::Tensor add(at::Tensor x, const std::vector<double>& weights,
                                 const std::vector<at::Tensor>& estimates) const {
      for (std::size_t k = 0; k < weights.size(); ++k) {
        x = x.add(estimates[k + 1].sub(estimates[0]), -scale_ * weights[k] / nodes_[k]);
      }
      return x;
    }

    double scale_ = 0.0;
    std::vector<double> nodes_;  // r_1 ... r_{p-1}, negative
    std::array<double, 3> moments_{};
  };
};

static_assert(SamplerPolicy<UniPc>);

}  // namespace ip2p
