#pragma once

/// \file
/// One type for all attention policies, so that a network is compiled once instead of once per policy.

#include <memory>
#include <utility>

#include "ip2p/attention/concepts.hpp"

namespace ip2p {

/// Refers to an attention policy without owning it, at the cost of one indirect call per attention layer.
///
/// The policy must outlive the reference, unless it is passed as a `shared_ptr`. Gradient checkpointing needs the
/// latter: it evaluates layers again in the backward pass, when the caller's policy may no longer exist.
class AttentionReference {
 public:
  /// Refers to `attention`, which must outlive this.
  template <class Attention>
  explicit AttentionReference(const Attention& attention)
      : policy_(std::addressof(attention)), call_(&call<Attention>) {
    require_attention_policy<Attention>();
  }

  /// Shares `attention`, which lives as long as this and its copies.
  template <class Attention>
  explicit AttentionReference(std::shared_ptr<const Attention> attention)
      : policy_(attention.get()), call_(&call<Attention>), owner_(std::move(attention)) {
    require_attention_policy<Attention>();
  }

  /// Calls the policy: q [B,heads,N,d], k and v [B,heads,M,d] -> [B,heads,N,d].
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    return call_(policy_, site, q, k, v);
  }

 private:
  using Call = at::Tensor (*)(const void*, const AttentionSite&, const at::Tensor&, const at::Tensor&,
                              const at::Tensor&);

  /// Shares ownership of `attention`.
  template <class Attention>
  static at::Tensor call(const void* policy, const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v) {
    return (*static_cast<const Attention*>(policy))(site, q, k, v);
  }

  const void* policy_;
  Call call_;
  std::shared_ptr<const void> owner_;
};
static_assert(AttentionPolicy<AttentionReference>);

}  // namespace ip2p
