#pragma once

/// \file
/// Guidance without the component that causes oversaturation.

#include <ATen/ops/linalg_vector_norm.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ip2p/guidance/concepts.hpp"
#include "ip2p/guidance/text_guidance.hpp"

namespace ip2p {

/// APG, Sadat, Hilliges and Weber 2024, "Eliminating oversaturation and artifacts of high guidance scales in diffusion
/// models", algorithm 1. With estimates c and u of x0, with and without the text, and scale w:
///
///     d = c - u + momentum * (d of the previous evaluation)          // negative momentum damps
///     d = d * min(1, threshold / |d|)                                // limits the length
///     x0 = c + (w - 1) * (d' + parallel * d'')                       // d'' the part of d along c, d' = d - d''
///
/// The part along the estimate is what oversaturates pictures; without it scales of 10 and more are usable. Lengths and
/// projections are computed per sample, over all axes but the batch. With `parallel` 1, `momentum` 0 and no threshold
/// the result is the same as the base's.
///
/// `base` can be any linear guidance. Its weighted sum is rewritten in terms of differences of neighbouring branches,
/// p_0 + sum_k (s_k - 1) (p_k - p_k+1) with s_k the sum of the first k + 1 weights, and each difference is replaced as
/// above, projected along p_k. So `AdaptiveProjectedGuidance<DualGuidance>` treats text and image guidance alike, each
/// with its own scale. A difference whose scale is 1 at some step is not evaluated, and its average stays as it is.
///
/// A sampler that evaluates several times per step updates the average each time. Throws `Error` for parameters that
/// are not finite and for a negative threshold.
template <class Base = TextGuidance>
struct AdaptiveProjectedGuidance {
  static_assert((require_guidance_policy<Base>(), true));
  static_assert(LinearGuidancePolicy<Base>,
                "ip2p: AdaptiveProjectedGuidance needs a LinearGuidancePolicy as its base; "
                "see docs/reference/concepts.md#linearguidancepolicy");

  static constexpr auto branches = Base::branches;
  /// It combines estimates of x0.
  static constexpr bool over_estimates = true;

  Base base = {};          ///< The guidance whose differences are modified; supplies the scales.
  double parallel = 0.0;   ///< The paper's eta: how much of the part along the estimate to keep.
  double momentum = -0.5;  ///< The paper's beta; 0 for none.
  double threshold = 7.5;  ///< The paper's r: maximum norm of a difference (norms grow with latent size); 0: no limit.

  /// Running averages of the differences; undefined until first needed.
  struct State {
    /// One for each difference of neighbouring branches, [B,C,h,w].
    std::array<at::Tensor, branches.size() - 1> averages;
  };
  /// The state of a new run: no averages yet.
  [[nodiscard]] State start() const { return {}; }

  /// `stacked` [K*B,C,h,w], estimates of x0 in the order of the base's branches -> [B,C,h,w].
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& step, const at::Tensor& /*x*/,
                                   State& run) const {
    require(std::isfinite(parallel) && std::isfinite(momentum),
            "AdaptiveProjectedGuidance: expected finite parallel and momentum, found {} and {}", parallel, momentum);
    require(threshold >= 0.0, "AdaptiveProjectedGuidance: expected a threshold >= 0, found {}", threshold);
    const auto estimates = detail::split_branches<branches.size()>(stacked);
    const auto scales = difference_scales(step);
    at::Tensor x0 = estimates[0];
    for (std::size_t k = 0; k < scales.size(); ++k) {
      if (scales[k] == 1.0) continue;
      at::Tensor difference = estimates[k].sub(estimates[k + 1]);
      auto& average = run.averages[k];
      if (average.defined()) difference = difference.add(average, momentum);
      average = difference;
      if (threshold > 0.0) difference = difference.mul(length(difference).reciprocal().mul(threshold).clamp_max(1.0));
      x0 = x0.add(projected(difference, estimates[k]), scales[k] - 1.0);
    }
    return x0;
  }

  /// The fully conditioned branch, and both branches of each difference whose scale is not 1.
  [[nodiscard]] std::array<bool, branches.size()> needs(const Step& step) const {
    std::array<bool, branches.size()> needed{true};
    const auto scales = difference_scales(step);
    for (std::size_t k = 0; k < scales.size(); ++k) {
      if (scales[k] != 1.0) needed[k] = needed[k + 1] = true;
    }
    return needed;
  }

 private:
  /// The s_k; a value within rounding error of 1 is set to exactly 1.
  std::array<double, branches.size() - 1> difference_scales(const Step& step) const {
    const auto weights = base.weights(step);
    std::array<double, branches.size() - 1> scales{};
    double sum = 0.0;
    for (std::size_t k = 0; k < scales.size(); ++k) {
      sum += weights[k];
      require(std::isfinite(sum), "AdaptiveProjectedGuidance: expected finite scales, found {}", sum);
      scales[k] = std::abs(sum - 1.0) < 1e-12 ? 1.0 : sum;
    }
    return scales;
  }

  /// `difference` with its part along `estimate` multiplied by `parallel`; in fp64, like the authors' code.
  at::Tensor projected(const at::Tensor& difference, const at::Tensor& estimate) const {
    if (parallel == 1.0) return difference;
    const auto wide = difference.to(at::kDouble);
    const auto along = estimate.to(at::kDouble);
    const auto direction = along.div(length(along).clamp_min(1e-12));
    const auto part = wide.mul(direction).sum(axes(wide), /*keepdim=*/true).mul(direction);
    return wide.add(part, parallel - 1.0).to(difference.scalar_type());
  }

  static at::Tensor length(const at::Tensor& x) { return at::linalg_vector_norm(x, 2, axes(x), /*keepdim=*/true); }

  static std::vector<std::int64_t> axes(const at::Tensor& x) {
    std::vector<std::int64_t> all;
    for (std::int64_t axis = 1; axis < x.dim(); ++axis) all.push_back(axis);
    return all;
  }
};

template <class Base>
AdaptiveProjectedGuidance(Base, double = 0.0, double = 0.0, double = 0.0) -> AdaptiveProjectedGuidance<Base>;

static_assert(StatefulGuidancePolicy<AdaptiveProjectedGuidance<>> &&
              SelectiveGuidancePolicy<AdaptiveProjectedGuidance<>>);

}  // namespace ip2p
