#pragma once

/// \file
/// Contract of this folder: guidance decides which predictions a step needs and how to combine them into one.
///
/// Skeleton for your own guidance:
///
///     struct FadingGuidance {                                        // the text scale fades to 0
///       static constexpr auto branches = ip2p::DualGuidance::branches;
///       double image_scale = 1.5, text_scale = 7.5;
///       at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step) const {      // [3B,C,h,w] -> [B,C,h,w]
///         const double fade = std::cos(step.progress() * std::numbers::pi / 2);
///         return ip2p::DualGuidance{image_scale, text_scale * fade}.combine(stacked, step);
///       }
///     };
///     static_assert(ip2p::GuidancePolicy<FadingGuidance>);           // then: ip2p::testing::check_guidance(...)
///
/// Skeleton of a guidance that combines estimates of x0, sees the noisy latents and keeps state during a run:
///
///     struct SteadyGuidance {                                        // a direction that changes slowly
///       static constexpr auto branches = ip2p::TextGuidance::branches;
///       static constexpr bool over_estimates = true;
///       struct State { at::Tensor before; };
///       double text_scale = 7.5;
///       State start() const { return {}; }
///       at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step, const at::Tensor& x, State& run) const {
///         const auto halves = stacked.chunk(2);                      // estimates of x0: text, null
///         at::Tensor along = halves[0] - halves[1];
///         if (run.before.defined()) along = (along + run.before) / 2;
///         run.before = along;
///         return halves[0] + along * (text_scale - 1);
///       }
///     };

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

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

// The integral constant requires `branches` to be usable at compile time.
template <class Policy>
concept HasBranches = requires {
  requires(branch_array_size<std::remove_cvref_t<decltype(Policy::branches)>> > 0);
  typename std::integral_constant<std::size_t, Policy::branches.size()>;
  typename std::bool_constant<Policy::branches[0].text>;
};

// `combine(stacked, step, more...)` of a constant policy.
template <class Policy, class... More>
concept Combines = requires(const Policy& guidance, const at::Tensor& stacked, const Step& step, More&... more) {
  { guidance.combine(stacked, step, more...) } -> std::convertible_to<at::Tensor>;
};

template <class Policy>
concept NamesStart = requires {
  requires std::is_member_function_pointer_v<decltype(&Policy::start)>;
}
|| requires(const Policy& p) { p.start(); };

template <class Policy>
concept HasStart = requires(const Policy& guidance) {
  requires std::copy_constructible<std::remove_cvref_t<decltype(guidance.start())>>;
};

/// Stands in for the state of a guidance without one.
struct NoState {};

/// The result of the policy's `start()`, or `NoState` if it has none.
template <class Policy>
auto started(const Policy& guidance) {
  if constexpr (HasStart<Policy>) {
    return guidance.start();
  } else {
    return NoState{};
  }
}
template <class Policy>
using StateOf = decltype(started(std::declval<const Policy&>()));

template <class Policy>
concept HasCombine = (HasStart<Policy> && Combines<Policy, const at::Tensor, StateOf<Policy>>) ||
                     (!HasStart<Policy> && (Combines<Policy> || Combines<Policy, const at::Tensor>));

/// Whether `combine` takes the noisy latents.
template <class Policy>
concept SeesLatents = HasStart<Policy> || Combines<Policy, const at::Tensor>;

template <class Policy>
concept NamesOverEstimates = requires {
  Policy::over_estimates;
};

template <class Policy>
concept SaysOverEstimates = requires {
  requires std::same_as < std::remove_cvref_t<decltype(Policy::over_estimates)>,
  bool > ;
  typename std::bool_constant<Policy::over_estimates>;
};

template <class Policy>
concept NamesWeights = requires {
  &Policy::weights;
}
|| requires(const Policy& p, const Step& step) { p.weights(step); };

template <class Policy>
concept HasWeights = requires(const Policy& guidance, const Step& step) {
  { guidance.weights(step) } -> std::same_as<std::array<double, Policy::branches.size()>>;
};

template <class Policy>
concept NamesNeeds = requires {
  &Policy::needs;
}
|| requires(const Policy& p, const Step& step) { p.needs(step); };

template <class Policy>
concept HasNeeds = requires(const Policy& guidance, const Step& step) {
  { guidance.needs(step) } -> std::same_as<std::array<bool, Policy::branches.size()>>;
};

}  // namespace detail

/// Whether a guidance combines estimates of x0 instead of the network's predictions, which it declares with
/// `static constexpr bool over_estimates = true`. `guided_denoiser` passes it whichever it asks for.
template <class Policy>
consteval bool over_estimates() {
  if constexpr (detail::SaysOverEstimates<Policy>) return Policy::over_estimates;
  return false;
}

/// How the predictions of a step are combined.
///
///     static constexpr std::array<Branch, K> branches;                       // the fully conditioned one first
///     at::Tensor combine(const at::Tensor& stacked, const Step& step) const;  // [K*B,C,h,w] branch-major -> [B,C,h,w]
///
/// and optionally
///
///     static constexpr bool over_estimates = true;   // `stacked` and the result are estimates of x0
///     at::Tensor combine(const at::Tensor& stacked, const Step& step, const at::Tensor& x) const;
///                                                    // in place of the above: x [B,C,h,w] the noisy latents at noise
///                                                    // level step.sigma, unscaled (x = x0 + sigma * noise)
///     State start() const;                           // what the policy remembers, as it is before a run
///     at::Tensor combine(const at::Tensor& stacked, const Step& step, const at::Tensor& x, State& run) const;
///                                                    // instead of the above, for a policy with `start()`
///
/// The state must be copyable, and copies must be independent: replace its tensors, do not write into them. A sampler
/// that evaluates twice per step also calls `combine` twice per step.
///
/// Laws (`ip2p::testing::check_guidance`), each for a run from its start:
///  1. if all branches predict the same, that is the result (guidance only moves along differences);
///  2. with all scales 1 the result is the prediction of the fully conditioned branch;
///  3. a batch gives the same result as its samples combined one by one; `stacked` is not modified; the dtype is kept;
///     equal arguments give bit-identical results.
template <class Policy>
concept GuidancePolicy = std::copy_constructible<Policy> && detail::HasBranches<Policy> && detail::HasCombine<Policy>;

/// Refinement: guidance that keeps state during a run (`start()`, see `GuidancePolicy`).
template <class Policy>
concept StatefulGuidancePolicy = GuidancePolicy<Policy> && detail::HasStart<Policy>;

/// Refinement: guidance that is a weighted sum of its branches, so that branches with weight 0 need not be evaluated.
///
///     std::array<double, K> weights(const Step& step) const;   // one a branch, sum 1
///
/// Laws: `combine` equals the weighted sum (up to rounding), and so is linear; the weights sum to 1.
template <class Policy>
concept LinearGuidancePolicy = GuidancePolicy<Policy> && detail::HasWeights<Policy>;

/// Refinement: guidance that is not a weighted sum of its branches, but does not use all of them at every step.
///
///     std::array<bool, K> needs(const Step& step) const;   // one a branch, at least one true
///
/// Branches that are not needed are not evaluated; their rows in `stacked` are copies of the first evaluated branch.
/// Law: `combine` does not depend on those rows (up to rounding).
template <class Policy>
concept SelectiveGuidancePolicy = GuidancePolicy<Policy> && detail::HasNeeds<Policy>;

/// Fails to compile, with a one-sentence message, unless `Policy` is a `GuidancePolicy` and any optional members have
/// the right type (otherwise a mistake in one would silently cost evaluations).
template <class Policy>
consteval void require_guidance_policy() {
  static_assert(std::copy_constructible<Policy>,
                "ip2p: GuidancePolicy must be copyable; see docs/reference/concepts.md#guidancepolicy");
  static_assert(detail::HasBranches<Policy>,
                "ip2p: GuidancePolicy needs `static constexpr std::array<Branch, K> branches`; "
                "see docs/reference/concepts.md#guidancepolicy");
  if constexpr (detail::NamesStart<Policy>) {
    static_assert(detail::HasStart<Policy>,
                  "ip2p: GuidancePolicy: `start` needs to be `State start() const` with a copyable State; "
                  "see docs/reference/concepts.md#guidancepolicy");
    static_assert(!detail::HasStart<Policy> || detail::HasCombine<Policy>,
                  "ip2p: GuidancePolicy with `State start() const` needs `Tensor combine(const Tensor& stacked, const "
                  "Step&, const Tensor& x, State&) const`; see docs/reference/concepts.md#guidancepolicy");
  } else {
    static_assert(detail::HasCombine<Policy>,
                  "ip2p: GuidancePolicy needs `Tensor combine(const Tensor& stacked, const Step&) const`; "
                  "see docs/reference/concepts.md#guidancepolicy");
  }
  if constexpr (detail::NamesOverEstimates<Policy>) {
    static_assert(detail::SaysOverEstimates<Policy>,
                  "ip2p: GuidancePolicy: `over_estimates` needs to be `static constexpr bool`; "
                  "see docs/reference/concepts.md#guidancepolicy");
  }
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

/// Which branches must be evaluated at `step`. Throws `Error` for weights that are not finite.
template <class Policy>
std::array<bool, Policy::branches.size()> needed_branches(const Policy& guidance, const Step& step) {
  std::array<bool, Policy::branches.size()> needed;
  needed.fill(true);
  if constexpr (LinearGuidancePolicy<Policy>) {
    const auto weights = guidance.weights(step);
    for (std::size_t k = 0; k < weights.size(); ++k) {
      require(std::isfinite(weights[k]), "guidance: expected finite weights, found {} for branch {}", weights[k], k);
      needed[k] = weights[k] != 0.0;
    }
  } else if constexpr (SelectiveGuidancePolicy<Policy>) {
    needed = guidance.needs(step);
  }
  return needed;
}

/// Calls `combine` in whichever form the policy has.
template <class Policy>
at::Tensor combined(const Policy& guidance, const at::Tensor& stacked, const Step& step, const at::Tensor& x,
                    StateOf<Policy>& run) {
  if constexpr (HasStart<Policy>) {
    return guidance.combine(stacked, step, x, run);
  } else if constexpr (SeesLatents<Policy>) {
    return guidance.combine(stacked, step, x);
  } else {
    return guidance.combine(stacked, step);
  }
}

/// Splits `stacked` [K*B, ...] into K views [B, ...]. Throws `Error` if the rows do not divide into K branches.
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
