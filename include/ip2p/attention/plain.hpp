#pragma once

/// \file
/// Attention without an edit.

#include <ATen/ops/scaled_dot_product_attention.h>

#include "ip2p/attention/concepts.hpp"

namespace ip2p {

/// softmax(Q K^T / sqrt(d)) V with LibTorch's fused kernels, which never store the map.
struct PlainAttention {
  /// Rows are independent of each other.
  static constexpr bool uniform_over_branches = true;
  /// Nothing depends on the step.
  static constexpr bool uniform_over_steps = true;

  /// q [B,heads,N,d], k and v [B,heads,M,d] -> [B,heads,N,d].
  at::Tensor operator()(const AttentionSite&, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) const {
    return at::scaled_dot_product_attention(q, k, v);
  }
};
static_assert(AttentionPolicy<PlainAttention>);

}  // namespace ip2p
