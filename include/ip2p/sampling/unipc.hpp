#pragma once

/// \file
/// UniPC: a multistep predictor, and a corrector that costs no evaluation.

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

/// The function B(h) of UniPC; it matters where few steps leave the weights inexact.
enum class UniPcSolver {
  bh1,  ///< B(h) = h, advised by the authors for unconditional sampling in few steps.
  bh2   ///< B(h) = e^h - 1.
};

/// Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models", 2023, over
/// estimates of x0. One evaluation a step, at the predicted latents; the next step first corrects them with it. No
/// noise. The first and last steps have lower orders, and the step that reaches 0 takes its own estimate as it is. The
/// predictor has order p, the corrected run order p + 1.
///
/// The correction is added to the latents, so that what `hooks.revise` changed in them stays changed.
///
/// Reference: diffusers `UniPCMultistepScheduler` (`predict_x0`, `lower_order_final`).
struct UniPc {
  /// Its name for `AnySampler`.
  static constexpr std::string_view name = "unipc";

  std::int64_t order = 2;                 ///< p, 1 to 3: estimates that a step uses.
  UniPcSolver solver = UniPcSolver::bh2;  ///< The function B(h).

  /// `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. Throws `Error` for unsound noise levels or
  /// parameters or a denoiser that answers another shape or dtype, `Cancelled` when a stop is requested.
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
  /// One step in -log sigma, of length h: x' = Euler's - B(h) sum_k rho_k (x0_k - x0) / r_k, where estimate k was made
  /// r_k h after the step's start.
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
      // moments_i = i! (-h) phi_{i+1}(-h) / B(h) for i = 1 ... 3, by phi_{i+1}(z) z = phi_i(z) - 1 / i!.
      double phi = std::expm1(-h) / -h;
      double factorial = 1.0;
      for (std::size_t i = 0; i < moments_.size(); ++i) {
        factorial *= static_cast<double>(i + 1);
        const double next = phi - 1.0 / factorial;
        moments_[i] = next * factorial / scale_;
        phi = next / -h;
      }
    }

    /// UniP. \param euler the latents that Euler's step gives
    [[nodiscard]] at::Tensor predict(const at::Tensor& euler, const std::vector<at::Tensor>& estimates) const {
      return add(euler, predictor(), estimates);
    }

    /// UniC, as a change of the predicted latents. \param x0 their estimate
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
      // As the authors have it, one weight is 1/2 for any h.
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
