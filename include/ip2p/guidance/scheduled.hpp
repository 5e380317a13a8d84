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
///     ip2p::Scheduled fading([](const ip2p::Step& step) {
///       return ip2p::DualGuidance{.image_scale = 1.5, .text_scale = 7.5 * (1.0 - step.progress())};
///     });
///
/// `of` is pure: one step may ask several times. Linear where what it answers is; branches that have weight 0 on a step
/// are left out on that step. A state begins as that of `of(Step{})` and is handed to the guidance of each step.
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

  /// `more` as the step's guidance asks: the noisy latents, its state.
  template <class... More>
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& step, More&&... more)
      const requires detail::Combines<Base, std::remove_reference_t<More>...> {
    return of_(step).combine(stacked, step, more...);
  }

  /// The state of a new run, as the guidance of the first step begins it.
  [[nodiscard]] auto start() const requires StatefulGuidancePolicy<Base> { return of_(Step{}).start(); }

  /// Those of the step's guidance.
  [[nodiscard]] std::array<double, branches.size()> weights(const Step& step) const requires LinearGuidancePolicy<Base> {
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
