#pragma once

/// \file
/// Contract of attention policies.
///
/// A policy is called at every attention layer of the UNet instead of softmax(Q K^T / sqrt(d)) V. It can choose whose
/// queries and keys to use and how to change the values. Every Prompt-to-Prompt edit is linear in the attention map, so
/// it can be expressed as a change to the values, and no policy needs to compute the map itself.
///
/// Laws (`ip2p::testing::check_attention`):
///  1. the result has the shape and dtype of q; arguments are not modified; equal arguments give bit-identical results;
///  2. at sites that the edit does not affect, the result is bit-identical to `PlainAttention`;
///  3. a batch of groups (a source and the images edited after it) gives the same result as the groups one by one;
///  4. a policy with `uniform_over_branches` gives each branch the same result as that branch alone;
///  5. a policy with `uniform_over_steps` gives the same result at every step;
///  6. linear in the values, whatever their width. `Observed` relies on this to read the map, by passing values that
///     select its columns. A policy that is not linear still works, but cannot be observed.
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

/// Which attention layer of the UNet is being evaluated, and at which step.
struct AttentionSite {
  bool cross = false;       ///< True for text cross-attention (keys and values from the context), else self-attention.
  std::int64_t layer = 0;   ///< Index of the transformer block, in order of evaluation.
  std::int64_t height = 0;  ///< Height of the feature map whose pixels are the queries.
  std::int64_t width = 0;   ///< Width of that map.
  Step step;                ///< The current sampling step; default outside a sampling run.

  /// The branches that the rows belong to: one block of B rows per branch, in this order, where row i of each block
  /// belongs to image i. Empty if the network was called without branches; all rows are then one block.
  std::span<const Branch> branches = {};

  /// The run's, for what a policy derives once a step or once a run; null outside a run.
  AttentionMemory* memory = nullptr;

  /// The result of `make()`, cached for the current evaluation if the run has a memory; see `AttentionMemory::once`.
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

template <class Attention>
concept SaysUniformOverSteps = std::same_as < std::remove_cvref_t<decltype(Attention::uniform_over_steps)>,
bool > ;

}  // namespace detail

/// Whether a policy does the same at every step: its result depends on q, k, v and the layer alone, and calling it has
/// no other effect. Evaluations with a policy that also has no data members can be recorded (execution/graphed.hpp). A
/// policy declares this with `static constexpr bool uniform_over_steps = true`.
template <class Attention>
consteval bool uniform_over_steps() {
  if constexpr (detail::SaysUniformOverSteps<Attention>) return Attention::uniform_over_steps;
  return false;
}

/// Whether a policy treats the rows of every branch alike and never mixes rows of different branches. If so, branches
/// with the same input are evaluated only once up to the first cross-attention, where `AttentionSite::branches` lists
/// the first of each such group. A policy declares this with `static constexpr bool uniform_over_branches = true`.
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

/// Fails to compile, with a one-sentence message, unless `Attention` is an `AttentionPolicy`.
template <class Attention>
consteval void require_attention_policy() {
  static_assert(
      AttentionPolicy<Attention>,
      "ip2p: AttentionPolicy needs `Tensor operator()(const AttentionSite&, const Tensor& q, const Tensor& k, "
      "const Tensor& v) const`; see docs/reference/concepts.md#attentionpolicy");
}

}  // namespace ip2p
