#pragma once

/// \file
/// Guidance that re-noises with the unconditional prediction.

#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// CFG++, Chung et al. 2024, "CFG++: manifold-constrained classifier free guidance for diffusion models", algorithm 2:
/// each step goes to base(x0) + sigma_next * eps_u, where eps_u is the noise predicted by the unconditional branch, not
/// the noise of the guided estimate. Small scales then suffice, and runs can be inverted. `base` takes scales from 0 to
/// 1, where 0.6 corresponds to 7.5 in plain guidance (the authors' pairs are .2 and 2, .4 and 5, .6 and 7.5, .8 and 9,
/// 1 and 12.5).
///
///     ip2p::CfgPlusPlus guidance(ip2p::TextGuidance{.text_scale = 0.6});
///
/// With an Euler step that is linear guidance whose strength depends on the step: let u be the unconditional estimate
/// of x0 and b the base's. The step of x0' = u + (b - u) sigma / (sigma - sigma_next) leads to x + (x - x0')
/// (sigma_next - sigma) / sigma = b + sigma_next (x - u) / sigma, as asked for.
///
/// So the result is exact for samplers that take Euler steps: `Euler` (also with churn) and `Ddim` without noise. With
/// other samplers it is just guidance of that strength. The unconditional branch is the base's last one; for
/// `DualGuidance` that is the branch without text and image. Throws `Error` if a step evaluates at the noise level that
/// it goes to, as `Heun` does.
template <class Base>
class CfgPlusPlus {
 public:
  static_assert((require_guidance_policy<Base>(), true));
  static_assert(LinearGuidancePolicy<Base> && detail::Combines<Base>,
                "ip2p: CfgPlusPlus needs a LinearGuidancePolicy as its base; "
                "see docs/reference/concepts.md#linearguidancepolicy");

  /// Those of the base.
  static constexpr auto branches = Base::branches;
  /// As the base does.
  static constexpr bool over_estimates = ip2p::over_estimates<Base>();

  /// \param final_sigma noise level at the end of the last step, as in `Ddim::final_sigma`
  explicit CfgPlusPlus(Base base, double final_sigma = 0.0) : base_(std::move(base)), final_sigma_(final_sigma) {}

  /// `stacked` [K*B,C,h,w] in the order of the base's branches -> [B,C,h,w].
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& step) const {
    const at::Tensor null = detail::split_branches<branches.size()>(stacked).back();
    return null.add(base_.combine(stacked, step).sub(null), strength(step));
  }

  /// The base's weights at the strength of the step; their sum stays 1. \throws Error as `combine`
  [[nodiscard]] std::array<double, branches.size()> weights(const Step& step) const {
    const double factor = strength(step);
    auto result = base_.weights(step);
    for (auto& weight : result) weight *= factor;
    result.back() += 1.0 - factor;
    return result;
  }

 private:
  double strength(const Step& step) const {
    const double to = step.sigma_next > 0.0 ? step.sigma_next : final_sigma_;
    require(to >= 0.0 && step.sigma > to,
            "CfgPlusPlus: expected an evaluation above the noise level that the step goes to, found {} and {}: use a "
            "sampler of one evaluation per step",
            step.sigma, to);
    return step.sigma / (step.sigma - to);
  }

  Base base_;
  double final_sigma_;
};

}  // namespace ip2p
