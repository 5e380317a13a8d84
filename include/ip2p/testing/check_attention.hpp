#pragma once

/// \file
/// The laws of `AttentionPolicy`.

#include <ATen/ops/cat.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// What `check_attention` needs to know about a policy.
struct AttentionCheck {
  std::int64_t group = 1;    ///< Images per group: a source and its edits.
  std::int64_t tokens = 77;  ///< Length of the text contexts that the policy expects.

  /// Sites that the policy changes; elsewhere its result equals `PlainAttention` bit for bit. Empty: any.
  std::function<bool(const AttentionSite&)> edits = {};

  bool linear_in_values = true;  ///< False for a policy whose result is not linear in the values.
};

/// Queries, keys and values, rows branch-major.
struct AttentionInput {
  at::Tensor q, k, v;  ///< q [B,heads,N,d], k and v [B,heads,M,d].

  /// The rows of `images` images from `first` on, in each of `blocks` blocks.
  [[nodiscard]] AttentionInput images(std::int64_t blocks, std::int64_t first, std::int64_t count) const {
    const auto take = [&](const at::Tensor& x) {
      return x.unflatten(0, {blocks, -1}).narrow(1, first, count).flatten(0, 1);
    };
    return {take(q), take(k), take(v)};
  }
  /// The rows of one of `blocks` blocks.
  [[nodiscard]] AttentionInput block(std::int64_t blocks, std::int64_t index) const {
    const auto take = [&](const at::Tensor& x) { return x.unflatten(0, {blocks, -1})[index]; };
    return {take(q), take(k), take(v)};
  }
};

/// Seeded input for a site: [rows, 2, pixels, 8], keys and values likewise.
inline AttentionInput attention_input(const AttentionSite& site, std::int64_t rows, std::int64_t tokens) {
  const auto pixels = site.height * site.width;
  const auto keys = site.cross ? tokens : pixels;
  CounterNoise noise(site.cross ? 5 : 6);
  return {noise.normal({rows, 2, pixels, 8}, 0), noise.normal({rows, 2, keys, 8}, 1),
          noise.normal({rows, 2, keys, 8}, 2)};
}

/// Throws `Error` naming the first law of `AttentionPolicy` that `attend` breaks. Calls it at self- and cross-attention
/// sites of a run of ten steps, with two groups of images in one, two and three branches.
template <class Attention>
void check_attention(const Attention& attend, const AttentionCheck& check = {}) {
  require_attention_policy<Attention>();
  constexpr auto role = "AttentionPolicy";
  const std::vector<std::vector<Branch>> runs{
      {}, {Branch{true, true}, Branch{false, true}}, {Branch{true, true}, Branch{false, true}, Branch{false, false}}};

  const auto check_site = [&](AttentionSite site, const std::vector<Branch>& branches) {
    const auto where =
        fmt::format("{} of {}x{}, step {}, {} branches", site.cross ? "cross-attention" : "self-attention", site.height,
                    site.width, site.step.index, branches.size());
    site.branches = branches;
    const auto blocks = std::max<std::int64_t>(1, static_cast<std::int64_t>(branches.size()));
    const auto images = 2 * check.group;
    const auto input = attention_input(site, blocks * images, check.tokens);
    const auto call = [&](const AttentionInput& in) -> at::Tensor { return attend(site, in.q, in.k, in.v); };

    const AttentionInput before{input.q.clone(), input.k.clone(), input.v.clone()};
    const at::Tensor result = call(input);
    expect_law(result.defined() && result.sizes() == input.q.sizes(), role, "the result has the shape of q",
               "expected {}, found {} at {}", shape_text(input.q.sizes()), tensor_text(result), where);
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      const AttentionInput other{input.q.to(dtype), input.k.to(dtype), input.v.to(dtype)};
      const auto kept = call(other).scalar_type();
      expect_law(kept == dtype, role, "the dtype is kept", "{} became {} at {}", c10::toString(dtype),
                 c10::toString(kept), where);
    }
    expect_same_bits(input.q, before.q, role, "arguments are not changed", "q at " + where);
    expect_same_bits(input.k, before.k, role, "arguments are not changed", "k at " + where);
    expect_same_bits(input.v, before.v, role, "arguments are not changed", "v at " + where);
    expect_same_bits(call(input), result, role, "equal calls give equal bits", where);
    if (check.edits && !check.edits(site)) {
      expect_same_bits(result, PlainAttention{}(site, input.q, input.k, input.v), role,
                       "sites that the edit does not want stay untouched", where);
    }

    const auto groups = result.unflatten(0, {blocks, -1});
    for (std::int64_t g = 0; g < 2; ++g) {
      const at::Tensor single = call(input.images(blocks, g * check.group, check.group));
      expect_close(groups.narrow(1, g * check.group, check.group), single.unflatten(0, {blocks, -1}), 1e-5, role,
                   "a batch of groups equals the groups one by one", fmt::format("group {} at {}", g, where));
    }
    if constexpr (uniform_over_branches<Attention>()) {
      for (std::size_t i = 0; i < branches.size(); ++i) {
        const auto index = static_cast<std::int64_t>(i);
        AttentionSite alone = site;
        alone.branches = std::span(branches).subspan(i, 1);
        const auto rows = input.block(blocks, index);
        const at::Tensor single = attend(alone, rows.q, rows.k, rows.v);
        expect_close(groups[index], single, 1e-5, role,
                     "a policy that is uniform over branches gives each what it gives that branch alone",
                     fmt::format("branch {} at {}", i, where));
      }
    }
    if constexpr (uniform_over_steps<Attention>()) {
      AttentionSite later = site;
      later.step = {.index = site.step.index + 1, .count = 12, .sigma = 0.02, .sigma_next = 0.0};
      expect_law(same_bits(result, attend(later, input.q, input.k, input.v)), role,
                 "a policy that is uniform over steps gives the same at every step", "{}", where);
    }
    if (check.linear_in_values) {
      const at::Tensor other = CounterNoise(7).normal(input.v.sizes(), 0);
      const at::Tensor mixed = attend(site, input.q, input.k, input.v.mul(0.5).sub(other, 2.0));
      expect_close(mixed, result.mul(0.5).sub(attend(site, input.q, input.k, other), 2.0), 1e-5, role,
                   "the result is linear in the values", where);
      const at::Tensor narrow = attend(site, input.q, input.k, input.v.narrow(3, 0, 3));
      expect_close(narrow, result.narrow(3, 0, 3), 1e-5, role, "values may be of another width than queries", where);
    }
  };

  for (const auto& branches : runs) {
    for (const std::int64_t index : {0, 4, 9}) {
      const Step step{.index = index, .count = 10, .sigma = 14.6 / static_cast<double>(1 + index), .sigma_next = 0.01};
      for (const bool cross : {false, true}) {
        check_site({.cross = cross, .layer = 1, .height = 6, .width = 5, .step = step}, branches);
      }
    }
  }
  // Large maps may take another code path.
  check_site({.cross = false, .layer = 0, .height = 36, .width = 30, .step = {.index = 0, .count = 10}}, runs[1]);
}

}  // namespace ip2p::testing
