#pragma once

/// \file
/// Contract of edits to text cross-attention: where the map of each word of the edited prompt comes from.
///
/// The map of an edited image combines its own, A_d [N,T], and its source's, A_s [N,T], with matrices on the token
/// axis: A_s W + A_d diag(a). The result is therefore A_s (W V_d) + A_d (diag(a) V_d): two fused attentions with
/// modified values (one if W or a is zero), without computing a map.
///
/// Skeleton:
/// \code
/// struct Halfway {                                          // half of each word's map from the source
///   std::int64_t destinations() const { return 1; }         // edited images per source
///   ip2p::TokenWeights weights(std::int64_t destination, const ip2p::Step& step) const {
///     return {at::eye(77).mul(0.5), at::full({77}, 0.5)};
///   }
/// };
/// static_assert(ip2p::TokenEdit<Halfway>);                  // then: ip2p::PromptToPrompt<Halfway>
/// \endcode

#include <ATen/ops/eye.h>
#include <ATen/ops/zeros.h>

#include <concepts>
#include <cstdint>

#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// How the map of one edited image is composed, token by token; fp32 on the CPU, for the T tokens of the context.
struct TokenWeights {
  at::Tensor from_source;  ///< W [T,T]: entry [s,t] is how much of source token s's map edited token t gets.
  at::Tensor own;          ///< a [T]: how much of its own map edited token t keeps.
};

/// An edit of text cross-attention.
///
///     std::int64_t destinations() const;                                       // edited images a group, >= 1
///     TokenWeights weights(std::int64_t destination, const Step& step) const;  // destination in [0, destinations())
///
/// Optional: `bool same_at_every_step() const`, true where the weights do not depend on the step. They are then derived
/// once a run and not at each step.
///
/// Laws: pure; equal shapes for all destinations and steps; weights that are said to be the same at every step are.
template <class Edit>
concept TokenEdit = std::copy_constructible<Edit> && requires(const Edit& edit, std::int64_t i, const Step& step) {
  { edit.destinations() } -> std::convertible_to<std::int64_t>;
  { edit.weights(i, step) } -> std::same_as<TokenWeights>;
};

/// Fails to compile, with a one-sentence message, unless `Edit` is a `TokenEdit`.
template <class Edit>
consteval void require_token_edit() {
  static_assert(TokenEdit<Edit>,
                "ip2p: TokenEdit needs `std::int64_t destinations() const` and `TokenWeights weights(std::int64_t "
                "destination, const Step&) const`; see docs/reference/concepts.md#tokenedit");
}

/// Whether an edit says that its weights do not depend on the step.
template <class Edit>
[[nodiscard]] constexpr bool same_at_every_step(const Edit& edit) {
  if constexpr (requires {
                  { edit.same_at_every_step() } -> std::convertible_to<bool>;
                }) {
    return edit.same_at_every_step();
  } else {
    return false;
  }
}

/// Uses the source's map unchanged, for prompts with the same words at the same positions. The base of `Reweight`.
struct KeepSource {
  std::int64_t count = 1;    ///< Edited images per group.
  std::int64_t tokens = 77;  ///< Length of the context.

  /// Edited images a group: `count`.
  [[nodiscard]] std::int64_t destinations() const { return count; }
  /// Whether the weights do not depend on the step.
  [[nodiscard]] static constexpr bool same_at_every_step() { return true; }
  /// The source's map alone.
  [[nodiscard]] TokenWeights weights(std::int64_t /*destination*/, const Step& /*step*/) const {
    return {at::eye(tokens), at::zeros({tokens})};
  }
};
static_assert(TokenEdit<KeepSource>);

}  // namespace ip2p
