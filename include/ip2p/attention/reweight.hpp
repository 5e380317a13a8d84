#pragma once

/// \file
/// Prompt-to-Prompt's attention re-weighting.

#include <cstdint>

#include "ip2p/attention/token_edit.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/to_device.hpp"

namespace ip2p {

/// Multiplies each word's map, as computed by `base`, by a scale: the base's map times diag(c) (Hertz et al. 2022,
/// section 3.2; `AttentionReweight` in google/prompt-to-prompt, where the base is called `controller`). A scale above 1
/// strengthens a word, below 1 weakens it, below 0 reverses it. With the default base, the prompts must have the same
/// words at the same positions.
template <class Base = KeepSource>
struct Reweight {
  static_assert((require_token_edit<Base>(), true));

  at::Tensor scales;  ///< c [T] for all edited prompts, or [D,T] for each; see `equalizer`.
  Base base = {};     ///< The edit whose maps are scaled.

  /// Edited prompts, as the base has them.
  [[nodiscard]] std::int64_t destinations() const { return base.destinations(); }
  /// Whether the weights do not depend on the step.
  [[nodiscard]] constexpr bool same_at_every_step() const { return ip2p::same_at_every_step(base); }
  /// The base's weights, scaled. \throws Error where `scales` has another length than the context
  [[nodiscard]] TokenWeights weights(std::int64_t destination, const Step& step) const {
    const TokenWeights inner = base.weights(destination, step);
    const auto c = detail::to_device(scales.dim() == 1 ? scales : scales[destination], inner.own.device());
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
