#pragma once

/// \file
/// Scales that change from step to step.

#include <array>
#include <concepts>
#include <type_traits>
#include <utility>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// The guidance that `of(step)` answers, for each step anew:
///
///     ip2p::Scheduled fading([](const ip2p::Step& at) {
///       return ip2p::DualGuidance{.image_scale = 1.5, .text_scale = 7.5 * (1.0 - at.progress())};
///     });
///
/// `of` is pure: one step may ask several times. Linear where what it answers is; branches that have weight 0 on a step
/// are left out on that step.
template <class Of>
class Scheduled {
 public:
  using Base = std::invoke_result_t<const Of&, const Step&>;
  static constexpr auto branches = Base::branches;

  explicit Scheduled(Of of) : of_(std::move(of)) { require_guidance_policy<Base>(); }

  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& at) const {
    return of_(at).combine(stacked, at);
  }

  [[nodiscard]] std::array<double, branches.size()> weights(const Step& at) const requires LinearGuidancePolicy<Base> {
    return of_(at).weights(at);
  }

  [[nodiscard]] std::array<bool, branches.size()> needs(const Step& at) const requires SelectiveGuidancePolicy<Base> {
    return of_(at).needs(at);
  }

 private:
  Of of_;
};

}  // namespace ip2p
