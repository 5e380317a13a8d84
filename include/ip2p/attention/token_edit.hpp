#pragma once

/// \file
/// Contract of edits of text cross-attention: where the map of each word of the edited prompt comes from.
///
/// The map of an edited image is made of its own, A_d [N,T], and its source's, A_s [N,T], by matrices on the token
/// axis: A_s W + A_d diag(a). So the result is A_s (W V_d) + A_d (diag(a) V_d): two fused attentions over changed
/// values, or one where W or a is zero, and no map.
///
/// Skeleton:
/// \code
/// struct Halfway {                                          // half of each word's map from the source
///   std::int64_t destinations() const { return 1; }         // edited images after each source
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

/// The map of one edited image by tokens, fp32 on the CPU; T text tokens, as many as the context has.
struct TokenWeights {
  at::Tensor from_source;  ///< W [T,T]: entry [s,t] is the part of source token s's map that edited token t receives.
  at::Tensor own;          ///< a [T]: the part of its own map that edited token t keeps.
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

/// Explains in one line what an edit of cross-attention lacks.
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

/// The source's map as it is, for prompts whose words stand at the same places: what `Reweight` scales.
struct KeepSource {
  std::int64_t count = 1;    ///< Edited images a group.
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
