#pragma once

/// \file
/// Applies an attention edit only to the rows that see the text.

#include <utility>

#include "ip2p/attention/groups.hpp"

namespace ip2p {

/// Uses `base` on the rows of branches that see the text and plain attention on the others, as google/prompt-to-prompt
/// edits only the conditional half. `base` is given the branches of its own rows. Not uniform over branches, so
/// branches with the same input cannot share work.
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
