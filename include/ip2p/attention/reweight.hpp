#pragma once

/// \file
/// Prompt-to-Prompt's attention re-weighting.

#include <cstdint>

#include "ip2p/attention/token_edit.hpp"
#include "ip2p/core/error.hpp"

namespace ip2p {

/// The maps that `base` gives, each word's times its scale: of diag(c), after the base's own combination (Hertz et al.
/// 2022, section 3.2; `AttentionReweight` of google/prompt-to-prompt, where the base is its `controller`). A scale
/// above 1 strengthens a word, below 1 weakens it, below 0 turns it round. With the default base the prompts have their
/// words at the same places.
template <class Base = KeepSource>
struct Reweight {
  static_assert((require_token_edit<Base>(), true));

  at::Tensor scales;  ///< c [T] for all edited prompts, or [D,T]; see `equalizer`.
  Base base = {};

  /// Edited prompts, as the base has them.
  [[nodiscard]] std::int64_t destinations() const { return base.destinations(); }
  /// Whether the weights do not depend on the step.
  [[nodiscard]] constexpr bool same_at_every_step() const { return ip2p::same_at_every_step(base); }
  /// The base's weights, scaled. \throws Error where `scales` has another length than the context
  [[nodiscard]] TokenWeights weights(std::int64_t destination, const Step& step) const {
    const auto c = scales.dim() == 1 ? scales : scales[destination];
    const TokenWeights inner = base.weights(destination, step);
    require(c.sizes() == inner.own.sizes(), "Reweight: scales: expected {}, found {}", shape_text(inner.own.sizes()),
            shape_text(c.sizes()));
    return {inner.from_source * c, inner.own * c};
  }
};
static_assert(TokenEdit<Reweight<>>);

template <class Base>
Reweight(at::Tensor, Base) -> Reweight<Base>;
Reweight(at::Tensor)->Reweight<KeepSource>;

}  // namespace ip2p
