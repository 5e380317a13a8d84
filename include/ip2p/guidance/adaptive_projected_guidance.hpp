#pragma once

/// \file
/// Guidance without the part that oversaturates.

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
///     d = c - u + momentum * (d of the evaluation before)            // a negative momentum damps
///     d = d * min(1, threshold / |d|)                                // a longer step than that is shortened
///     x0 = c + (w - 1) * (d' + parallel * d'')                       // d'' the part of d along c, d' = d - d''
///
/// The part along the estimate is what oversaturates pictures; without it scales of 10 and more are usable. Lengths and
/// projections are those of a sample, over all axes but the batch. With `parallel` 1, `momentum` 0 and no threshold it
/// is its base.
///
/// `base` is any linear guidance: the sum of its branches, written along the differences of neighbours,
/// p_0 + sum_k (s_k - 1) (p_k - p_k+1) with s_k the sum of the first k + 1 weights, has the above in place of each
/// difference, taken along p_k. So `AdaptiveProjectedGuidance<DualGuidance>` treats the text's and the image's part
/// alike, each with its scale. A difference of scale 1 on some step is not evaluated and keeps its average.
///
/// A sampler that evaluates more than once a step updates the average as often. Throws `Error` for numbers that are not
/// finite and a threshold below 0.
template <class Base = TextGuidance>
struct AdaptiveProjectedGuidance {
  static_assert((require_guidance_policy<Base>(), true));
  static_assert(LinearGuidancePolicy<Base>,
                "ip2p: AdaptiveProjectedGuidance needs a LinearGuidancePolicy as its base; "
                "see docs/reference/concepts.md#linearguidancepolicy");

  static constexpr auto branches = Base::branches;
  /// It combines estimates of x0.
  static constexpr bool over_estimates = true;

  Base base = {};
  double parallel = 0.0;   ///< The paper's eta: what is kept of the part along the estimate.
  double momentum = -0.5;  ///< The paper's beta; 0: none.
  double threshold = 7.5;  ///< The paper's r: longest difference, a norm that grows with the latents' size; 0: any.

  /// Averages of the differences, each defined once it was needed.
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

  /// The branches of the differences whose scale is not 1, and the fully conditioned one.
  [[nodiscard]] std::array<bool, branches.size()> needs(const Step& step) const {
    std::array<bool, branches.size()> needed{true};
    const auto scales = difference_scales(step);
    for (std::size_t k = 0; k < scales.size(); ++k) {
      if (scales[k] != 1.0) needed[k] = needed[k + 1] = true;
    }
    return needed;
  }

 private:
  /// s_k, exactly 1 where it is 1 but for the rounding of the sum.
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

  /// `difference` with `parallel` times its part along `estimate`; in fp64, like the authors' code.
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
