#pragma once

/// \file
/// Attention without an edit.

#include "ip2p/attention/concepts.hpp"
#include "ip2p/attention/fused_attention.hpp"

namespace ip2p {

/// softmax(Q K^T / sqrt(d)) V with a fused kernel, which never stores the map.
struct PlainAttention {
  /// Rows are independent of each other.
  static constexpr bool uniform_over_branches = true;
  /// Nothing depends on the step.
  static constexpr bool uniform_over_steps = true;

  /// q [B,heads,N,d], k and v [B,heads,M,d] -> [B,heads,N,d].
  at::Tensor operator()(const AttentionSite&, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
    return detail::attention(q, k, v);
  }
};
static_assert(AttentionPolicy<PlainAttention>);

}  // namespace ip2p
