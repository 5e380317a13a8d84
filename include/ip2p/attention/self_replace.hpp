#pragma once

/// \file
/// Self-attention of the source for all images of its group.

#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "ip2p/attention/groups.hpp"

namespace ip2p {

/// The data engine's edit (Brooks et al. 2023, section 3.1.2, and the released `generate_img_dataset.py`): while
/// share > progress, every self-attention layer takes the queries and keys of the group's first image for all images of
/// the group; values stay each image's own, cross-attention is untouched. So the images of a group keep one layout.
///
/// Rows of each branch are groups of `group` images, the source first. All branches alike; `TextOnly<SelfReplace>` with
/// `max_tokens` 32 * 32 is the self-attention edit of google/prompt-to-prompt. Throws `Error` where the rows do not
/// divide into groups.
struct SelfReplace {
  static constexpr bool uniform_over_branches = true;

  double share = 0.5;               ///< p: part of the run, from its start; the data engine draws it from .1 ... .9.
  std::vector<double> shares = {};  ///< One share for each group of the batch, in place of `share`.
  std::int64_t group = 2;           ///< Images a group, >= 1.
  std::int64_t max_tokens = std::numeric_limits<std::int64_t>::max();  ///< Larger maps (in pixels) are left alone.

  /// q [B,heads,N,d], k and v [B,heads,N,d] -> [B,heads,N,d].
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    if (site.cross || q.size(2) > max_tokens) return PlainAttention{}(site, q, k, v);
    detail::require_groups("SelfReplace", site, q.size(0), group);
    const auto groups = q.size(0) / group;
    std::vector<std::int64_t> injected;  // rows of the groups that still follow their source
    std::vector<std::int64_t> rest;
    for (std::int64_t i = 0; i < groups; ++i) {
      auto& rows = share_of(i, site, groups) > site.step.progress() ? injected : rest;
      for (std::int64_t j = 0; j < group; ++j) rows.push_back(i * group + j);
    }
    if (injected.empty()) return PlainAttention{}(site, q, k, v);
    if (rest.empty()) return detail::attend_from_source(q, k, v, group);

    const auto index = [&](const std::vector<std::int64_t>& rows) {
      return at::tensor(rows, at::kLong).to(q.device());
    };
    const auto of_injected = index(injected);
    const auto of_rest = index(rest);
    const auto take = [](const at::Tensor& x, const at::Tensor& rows) { return at::index_select(x, 0, rows); };
    auto order = injected;
    order.insert(order.end(), rest.begin(), rest.end());
    const auto result =
        at::cat({detail::attend_from_source(take(q, of_injected), take(k, of_injected), take(v, of_injected), group),
                 PlainAttention{}(site, take(q, of_rest), take(k, of_rest), take(v, of_rest))});
    return take(result, index(order).argsort());
  }

 private:
  double share_of(std::int64_t index, const AttentionSite& site, std::int64_t groups) const {
    if (shares.empty()) return share;
    const auto branches = std::max<std::int64_t>(1, static_cast<std::int64_t>(site.branches.size()));
    require(static_cast<std::int64_t>(shares.size()) * branches == groups,
            "SelfReplace: shares: expected one for each of {} groups, found {}", groups / branches, shares.size());
    return shares[static_cast<std::size_t>(index % (groups / branches))];
  }
};
static_assert(AttentionPolicy<SelfReplace>);

}  // namespace ip2p
