#pragma once

/// \file
/// Contract of the attention axis.
///
/// A policy is called at every attention layer of the UNet in place of softmax(Q K^T / sqrt(d)) V and may choose whose
/// queries and keys are used and what is done to the values. Every Prompt-to-Prompt edit is linear in the attention
/// map, so it can be written on the value side and no policy has to build a map.
///
/// Laws (`ip2p::testing::check_attention`):
///  1. the result has the shape and dtype of q; arguments are not changed; equal arguments give equal bits;
///  2. sites that an edit does not want have the bits of `PlainAttention`;
///  3. a batch of groups (a source and the images edited after it) equals the groups one by one;
///  4. a policy that says `uniform_over_branches` gives each branch what it gives that branch alone;
///  5. linear in the values, whatever their width: so `Observed` learns the map, by values that pick its columns. A
///     policy that adds something of its own to the result is none the worse, but cannot be observed.
///
/// Skeleton:
/// \code
/// struct MyAttention {
///   at::Tensor operator()(const ip2p::AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
///                         const at::Tensor& v) const {
///     return ip2p::PlainAttention{}(site, q, k, v);
///   }
/// };
/// static_assert(ip2p::AttentionPolicy<MyAttention>);
/// \endcode

#include <concepts>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "ip2p/attention/attention_memory.hpp"
#include "ip2p/core/branch.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Which attention layer of the UNet is being evaluated, and when.
struct AttentionSite {
  bool cross = false;       ///< Text cross-attention (keys and values from the context) or self-attention.
  std::int64_t layer = 0;   ///< Running number of the transformer block, in the order of evaluation.
  std::int64_t height = 0;  ///< Height of the feature map whose pixels are the queries.
  std::int64_t width = 0;   ///< Width of that map.
  Step step;                ///< Where the sampler stands; default outside a sampling run.

  /// What the rows are: one block of B rows a branch, in this order, row i of each block belonging to image i. Empty
  /// where the network was called without branches: all rows are one block then.
  std::span<const Branch> branches = {};

  /// The run's, for what a policy derives once a step or once a run; null outside a run.
  AttentionMemory* memory = nullptr;

  /// What `make()` gives, once for each evaluation where a run has a memory; see `AttentionMemory::once`.
  template <class Value, class Make>
  [[nodiscard]] Value once(const void* owner, std::int64_t size, Make&& make) const {
    if (memory == nullptr) return make();
    return memory->once<Value>(owner, step, size, make);
  }

  /// What `make()` gives, once a run for each `key` where a run has a memory; see `AttentionMemory::once_a_run`.
  template <class Value, class Make>
  [[nodiscard]] Value once_a_run(const void* owner, const std::vector<std::int64_t>& key, Make&& make) const {
    if (memory == nullptr) return make();
    return memory->once_a_run<Value>(owner, key, make);
  }
};

namespace detail {

template <class Attention>
concept SaysUniform = std::same_as < std::remove_cvref_t<decltype(Attention::uniform_over_branches)>,
bool > ;

}  // namespace detail

/// Whether a policy treats the rows of every branch alike and looks at images within their block only. Then branches
/// that see the same input are evaluated once up to the first cross-attention, and `AttentionSite::branches` names the
/// first of each such group there. A policy says so by `static constexpr bool uniform_over_branches = true`.
template <class Attention>
consteval bool uniform_over_branches() {
  if constexpr (detail::SaysUniform<Attention>) return Attention::uniform_over_branches;
  return false;
}

/// `policy(site, q, k, v)` with q [B,heads,N,d], k and v [B,heads,M,d] returns [B,heads,N,d].
template <class Attention>
concept AttentionPolicy = std::copy_constructible<Attention> &&
    requires(const Attention& attend, const AttentionSite& site, const at::Tensor& t) {
  { attend(site, t, t, t) } -> std::convertible_to<at::Tensor>;
};

/// Explains in one line what an attention policy lacks.
template <class Attention>
consteval void require_attention_policy() {
  static_assert(
      AttentionPolicy<Attention>,
      "ip2p: AttentionPolicy needs `Tensor operator()(const AttentionSite&, const Tensor& q, const Tensor& k, "
      "const Tensor& v) const`; see docs/reference/concepts.md#attentionpolicy");
}

}  // namespace ip2p
