#pragma once

/// \file
/// Guidance within a limited interval of noise levels.

#include <array>
#include <limits>
#include <type_traits>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// Kynkaanniemi et al. 2024, "Applying guidance in a limited interval": uses `base` while sigma_low < sigma <=
/// sigma_high, and only the fully conditioned prediction elsewhere (the other branches are not evaluated). At high
/// noise guidance reduces variety; at low noise it has little effect.
///
/// Linear if `base` is. Outside the interval the base's state does not change. Throws `Error` unless sigma_low <
/// sigma_high.
template <class Base>
struct LimitedInterval {
  static_assert((require_guidance_policy<Base>(), true));
  static constexpr auto branches = Base::branches;
  /// As the base does.
  static constexpr bool over_estimates = ip2p::over_estimates<Base>();

  Base base;                                                    ///< The guidance used inside the interval.
  double sigma_low = 0.0;                                       ///< Noise level, exclusive.
  double sigma_high = std::numeric_limits<double>::infinity();  ///< Noise level, inclusive.

  /// Whether the step lies in the interval. Throws `Error` unless sigma_low < sigma_high.
  [[nodiscard]] bool guides(const Step& step) const {
    require(sigma_low < sigma_high, "LimitedInterval: expected sigma_low < sigma_high, found {} and {}", sigma_low,
            sigma_high);
    return step.sigma > sigma_low && step.sigma <= sigma_high;
  }

  /// `stacked` [K*B,C,h,w] in the order of the base's branches -> [B,C,h,w].
  /// \param more what the base takes in addition: the noisy latents, its state
  template <class... More>
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& step, More&&... more)
      const requires detail::Combines<Base, std::remove_reference_t<More>...> {
    return guides(step) ? base.combine(stacked, step, more...) : detail::split_branches<branches.size()>(stacked)[0];
  }

  /// The base's state for a new run.
  [[nodiscard]] auto start() const requires StatefulGuidancePolicy<Base> { return base.start(); }

  /// The base's weights inside the interval, the first branch alone outside.
  [[nodiscard]] std::array<double, branches.size()> weights(const Step& step) const requires
      LinearGuidancePolicy<Base> {
    if (guides(step)) return base.weights(step);
    return {1.0};
  }

  /// The branches that the base needs inside the interval, the first alone outside.
  [[nodiscard]] std::array<bool, branches.size()> needs(const Step& step) const requires(!LinearGuidancePolicy<Base>) {
    if (guides(step)) return detail::needed_branches(base, step);
    return {true};
  }
};

template <class Base>
LimitedInterval(Base, double, double) -> LimitedInterval<Base>;

}  // namespace ip2p
