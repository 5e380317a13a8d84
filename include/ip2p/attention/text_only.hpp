#pragma once

/// \file
/// An attention edit on the conditional half alone.

#include <utility>

#include "ip2p/attention/groups.hpp"

namespace ip2p {

/// `base` on the rows of the branches that see the text, as google/prompt-to-prompt edits the conditional half only;
/// plain attention on the others. `base` is told the branches of its rows. Not uniform over branches, so that branches
/// of one input share nothing.
template <class Base>
struct TextOnly {
  static_assert((require_attention_policy<Base>(), true));

  Base base;

  /// q [B,heads,N,d], k and v [B,heads,M,d] -> [B,heads,N,d].
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    return detail::on_text_rows(site, q, k, v, base);
  }
};
template <class Base>
TextOnly(Base) -> TextOnly<Base>;

static_assert(AttentionPolicy<TextOnly<PlainAttention>>);

}  // namespace ip2p
