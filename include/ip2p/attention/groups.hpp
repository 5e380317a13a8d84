#pragma once

/// \file
/// Batches made of groups of images: the first image of a group is the source, the others are edited after it.

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/attention/concepts.hpp"
#include "ip2p/attention/fused_attention.hpp"
#include "ip2p/attention/plain.hpp"
#include "ip2p/core/error.hpp"

namespace ip2p::detail {

/// Throws `Error` unless the rows of each branch divide into groups of `group` images.
inline void require_groups(std::string_view who, const AttentionSite& site, std::int64_t rows, std::int64_t group) {
  const auto branches = std::max<std::int64_t>(1, static_cast<std::int64_t>(site.branches.size()));
  require(group >= 1, "{}: expected groups of at least 1 image, found {}", who, group);
  require(rows % (branches * group) == 0, "{}: expected groups of {} images in each of {} branches, found {} rows", who,
          group, branches, rows);
}

/// [G*g, ...] -> [G, g, ...], a view.
inline at::Tensor split_groups(const at::Tensor& x, std::int64_t group) { return x.unflatten(0, {-1, group}); }

/// Attention with the queries and keys of each group's source and each image's own values: A_source V_i for image i.
///
/// \param q [G*g, heads, N, d]  \param k [G*g, heads, M, d]  \param v [G*g, heads, M, c]
/// \return [G*g, heads, N, c]
inline at::Tensor attend_from_source(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                     std::int64_t group) {
  if (group == 1) return attention(q, k, v);
  const auto width = q.size(3);
  // One softmax for the whole group, with values side by side on the channel axis. The fused kernel requires queries as
  // wide as the values, hence the zero padding. On a CPU this takes 20 to 30 % less time than repeating the queries
  // when the softmax dominates, and more time otherwise.
  if (q.is_cpu() && k.size(2) >= 1024 && v.size(3) == width) {
    const auto wide = [&](const at::Tensor& x) {
      return at::constant_pad_nd(split_groups(x, group).select(1, 0), {0, (group - 1) * width});
    };
    // Tokens before heads, the memory order of a layer's projections, so that each way takes only one copy.
    const auto values = split_groups(v.transpose(1, 2), group).permute({0, 2, 3, 1, 4}).flatten(3).transpose(1, 2);
    const auto result = at::scaled_dot_product_attention(wide(q), wide(k), values, {}, 0.0, false,
                                                         1.0 / std::sqrt(static_cast<double>(width)));
    return result.transpose(1, 2).unflatten(-1, {group, width}).permute({0, 3, 1, 2, 4}).flatten(0, 1).transpose(1, 2);
  }
  const auto repeated = [&](const at::Tensor& x) {
    return split_groups(x, group).narrow(1, 0, 1).expand({-1, group, -1, -1, -1}).flatten(0, 1);
  };
  return attention(repeated(q), repeated(k), v);
}

/// Applies `edit(site, q, k, v)` to the rows of branches that see the text, and plain attention to the others. Without
/// branches, all rows count as seeing the text.
template <class Edit>
at::Tensor on_text_rows(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        const Edit& edit) {
  const auto count = site.branches.size();
  std::vector<at::Tensor> parts;
  for (std::size_t begin = 0, end = 0; begin < count; begin = end) {
    while (end < count && site.branches[end].text == site.branches[begin].text) ++end;
    const auto block = q.size(0) / static_cast<std::int64_t>(count);
    const auto rows = [&](const at::Tensor& x) {
      return x.narrow(0, static_cast<std::int64_t>(begin) * block, static_cast<std::int64_t>(end - begin) * block);
    };
    AttentionSite part = site;
    part.branches = site.branches.subspan(begin, end - begin);
    parts.push_back(site.branches[begin].text ? edit(part, rows(q), rows(k), rows(v))
                                              : PlainAttention{}(part, rows(q), rows(k), rows(v)));
  }
  if (parts.empty()) return edit(site, q, k, v);
  return parts.size() == 1 ? parts[0] : at::cat(parts);
}

}  // namespace ip2p::detail
