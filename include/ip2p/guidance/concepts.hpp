#pragma once

/// \file
/// Contract of the folder: guidance says which predictions a step needs and how they become one.
///
/// Skeleton to copy for a guidance of one's own:
///
///     struct FadingGuidance {                                        // the text scale fades to 0
///       static constexpr auto branches = ip2p::DualGuidance::branches;
///       double image_scale = 1.5, text_scale = 7.5;
///       at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& at) const {      // [3B,C,h,w] -> [B,C,h,w]
///         const double fade = std::cos(at.progress() * std::numbers::pi / 2);
///         return ip2p::DualGuidance{image_scale, text_scale * fade}.combine(stacked, at);
///       }
///     };
///     static_assert(ip2p::GuidancePolicy<FadingGuidance>);           // then: ip2p::testing::check_guidance(...)

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <type_traits>

#include "ip2p/core/branch.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

namespace detail {

template <class>
inline constexpr std::size_t branch_array_size = 0;
template <std::size_t N>
inline constexpr std::size_t branch_array_size<std::array<Branch, N>> = N;

// The integral constant forces `branches` to be usable at compile time.
template <class Policy>
concept HasBranches = requires {
  requires(branch_array_size<std::remove_cvref_t<decltype(Policy::branches)>> > 0);
  typename std::integral_constant<std::size_t, Policy::branches.size()>;
  typename std::bool_constant<Policy::branches[0].text>;
};

template <class Policy>
concept HasCombine = requires(const Policy& guidance, const at::Tensor& stacked, const Step& at) {
  { guidance.combine(stacked, at) } -> std::convertible_to<at::Tensor>;
};

template <class Policy>
concept NamesWeights = requires {
  &Policy::weights;
}
|| requires(const Policy& p, const Step& at) { p.weights(at); };

template <class Policy>
concept HasWeights = requires(const Policy& guidance, const Step& at) {
  { guidance.weights(at) } -> std::same_as<std::array<double, Policy::branches.size()>>;
};

template <class Policy>
concept NamesNeeds = requires {
  &Policy::needs;
}
|| requires(const Policy& p, const Step& at) { p.needs(at); };

template <class Policy>
concept HasNeeds = requires(const Policy& guidance, const Step& at) {
  { guidance.needs(at) } -> std::same_as<std::array<bool, Policy::branches.size()>>;
};

}  // namespace detail

/// How the predictions of a step are combined.
///
///     static constexpr std::array<Branch, K> branches;                       // the fully conditioned one first
///     at::Tensor combine(const at::Tensor& stacked, const Step& at) const;   // [K*B,C,h,w] branch-major -> [B,C,h,w]
///
/// Laws (`ip2p::testing::check_guidance`):
///  1. where all branches predict the same, so does the result (guidance moves along differences only);
///  2. with all scales 1 the result is the prediction of the fully conditioned branch;
///  3. a batch equals its samples combined one by one; `stacked` is not changed; the dtype is kept.
template <class Policy>
concept GuidancePolicy = std::copy_constructible<Policy> && detail::HasBranches<Policy> && detail::HasCombine<Policy>;

/// Refinement: guidance that is a weighted sum of its branches, so that branches of zero weight need not be evaluated.
///
///     std::array<double, K> weights(const Step& at) const;   // one a branch, sum 1
///
/// Laws: `combine` equals the weighted sum (up to rounding), hence is linear; the weights sum to 1.
template <class Policy>
concept LinearGuidancePolicy = GuidancePolicy<Policy> && detail::HasWeights<Policy>;

/// Refinement: guidance that is no weighted sum of its branches, but does not look at all of them on every step.
///
///     std::array<bool, K> needs(const Step& at) const;   // one a branch, at least one true
///
/// Branches that are not needed are not evaluated; their rows then repeat those of the first one that was.
/// Law: `combine` does not depend on their rows (up to rounding).
template <class Policy>
concept SelectiveGuidancePolicy = GuidancePolicy<Policy> && detail::HasNeeds<Policy>;

/// Stops compilation with one sentence unless `Policy` is a `GuidancePolicy` (and its weights or needs, if any, are of
/// the right type: a misspelt refinement would cost evaluations silently).
template <class Policy>
consteval void require_guidance_policy() {
  static_assert(std::copy_constructible<Policy>,
                "ip2p: GuidancePolicy must be copyable; see docs/reference/concepts.md#guidancepolicy");
  static_assert(detail::HasBranches<Policy>,
                "ip2p: GuidancePolicy needs `static constexpr std::array<Branch, K> branches`; "
                "see docs/reference/concepts.md#guidancepolicy");
  static_assert(detail::HasCombine<Policy>,
                "ip2p: GuidancePolicy needs `Tensor combine(const Tensor& stacked, const Step&) const`; "
                "see docs/reference/concepts.md#guidancepolicy");
  if constexpr (detail::HasBranches<Policy> && detail::NamesWeights<Policy>) {
    static_assert(detail::HasWeights<Policy>,
                  "ip2p: LinearGuidancePolicy needs `std::array<double, K> weights(const Step&) const`; "
                  "see docs/reference/concepts.md#guidancepolicy");
  }
  if constexpr (detail::HasBranches<Policy> && detail::NamesNeeds<Policy>) {
    static_assert(detail::HasNeeds<Policy>,
                  "ip2p: SelectiveGuidancePolicy needs `std::array<bool, K> needs(const Step&) const`; "
                  "see docs/reference/concepts.md#guidancepolicy");
  }
}

namespace detail {

/// Which branches a step of `guidance` has to evaluate. Throws `Error` for weights that are not finite.
template <class Policy>
std::array<bool, Policy::branches.size()> needed_branches(const Policy& guidance, const Step& at) {
  std::array<bool, Policy::branches.size()> needed;
  needed.fill(true);
  if constexpr (LinearGuidancePolicy<Policy>) {
    const auto weights = guidance.weights(at);
    for (std::size_t k = 0; k < weights.size(); ++k) {
      require(std::isfinite(weights[k]), "guidance: expected finite weights, found {} for branch {}", weights[k], k);
      needed[k] = weights[k] != 0.0;
    }
  } else if constexpr (SelectiveGuidancePolicy<Policy>) {
    needed = guidance.needs(at);
  }
  return needed;
}

/// Views of `stacked` [K*B, ...], one of [B, ...] a branch. Throws `Error` if the rows do not divide into K branches.
template <std::size_t K>
std::array<at::Tensor, K> split_branches(const at::Tensor& stacked) {
  require(stacked.defined() && stacked.dim() >= 1 && stacked.size(0) % static_cast<std::int64_t>(K) == 0,
          "stacked predictions: expected [{} * B, ...], found {}", K,
          stacked.defined() ? shape_text(stacked.sizes()) : "no tensor");
  const std::int64_t batch = stacked.size(0) / static_cast<std::int64_t>(K);
  std::array<at::Tensor, K> parts;
  for (std::size_t k = 0; k < K; ++k) parts[k] = stacked.narrow(0, static_cast<std::int64_t>(k) * batch, batch);
  return parts;
}

}  // namespace detail

}  // namespace ip2p
