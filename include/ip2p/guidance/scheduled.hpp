#pragma once

/// \file
/// Guidance whose scales change from step to step.

#include <array>
#include <concepts>
#include <type_traits>
#include <utility>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// At each step, uses the guidance that `of(step)` returns:
///
///     ip2p::Scheduled fading([](const ip2p::Step& step) {
///       return ip2p::DualGuidance{.image_scale = 1.5, .text_scale = 7.5 * (1.0 - step.progress())};
///     });
///
/// `of` must be pure, because it may be called several times per step. Linear if the returned guidance is; branches
/// with weight 0 at a step are not evaluated at that step. If the guidance has state, it starts as `of(Step{}).start()`
/// and is passed to the guidance of each step.
template <class Of>
class Scheduled {
 public:
  /// The guidance that the function answers.
  using Base = std::invoke_result_t<const Of&, const Step&>;
  static_assert((require_guidance_policy<Base>(), true));
  static constexpr auto branches = Base::branches;
  /// As the answered guidance does.
  static constexpr bool over_estimates = ip2p::over_estimates<Base>();

  /// \param of a pure function from `const Step&` to a guidance
  explicit Scheduled(Of of) : of_(std::move(of)) {}

  /// `stacked` [K*B,C,h,w] in the order of `branches` -> [B,C,h,w].
  /// \param more what the step's guidance takes in addition: the noisy latents, its state
  template <class... More>
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& step, More&&... more)
      const requires detail::Combines<Base, std::remove_reference_t<More>...> {
    return of_(step).combine(stacked, step, more...);
  }

  /// The state of a new run, as the guidance of the first step begins it.
  [[nodiscard]] auto start() const requires StatefulGuidancePolicy<Base> { return of_(Step{}).start(); }

  /// Those of the step's guidance.
  [[nodiscard]] std::array<double, branches.size()> weights(const Step& step) const requires
      LinearGuidancePolicy<Base> {
    return of_(step).weights(step);
  }

  /// The branches that the step's guidance needs.
  [[nodiscard]] std::array<bool, branches.size()> needs(const Step& step) const requires SelectiveGuidancePolicy<Base> {
    return of_(step).needs(step);
  }

 private:
  Of of_;
};

}  // namespace ip2p
