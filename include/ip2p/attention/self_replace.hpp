#pragma once

/// \file
/// Uses the source's self-attention for all images of its group.

#include <ATen/ops/cat.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "ip2p/attention/groups.hpp"
#include "ip2p/core/to_device.hpp"

namespace ip2p {

/// The edit used to generate the training pairs (Brooks et al. 2023, section 3.1.2, and the released
/// `generate_img_dataset.py`): while share > progress, every self-attention layer uses the queries and keys of the
/// group's first image for all its images. Each image keeps its own values, and cross-attention is unchanged. The
/// images of a group therefore share one layout.
///
/// The rows of each branch are groups of `group` images, the source first. All branches are treated alike;
/// `TextOnly<SelfReplace>` with `max_tokens` 32 * 32 is the self-attention edit of google/prompt-to-prompt. Throws
/// `Error` if the rows do not divide into groups.
struct SelfReplace {
  /// Branches are treated alike.
  static constexpr bool uniform_over_branches = true;

  double share = 0.5;               ///< p: share of the run, from its start; the paper draws it from .1 ... .9.
  std::vector<double> shares = {};  ///< One share per group of the batch; overrides `share`.
  std::int64_t group = 2;           ///< Images per group, >= 1.
  std::int64_t max_tokens = std::numeric_limits<std::int64_t>::max();  ///< Maps with more pixels are left alone.

  /// q [B,heads,N,d], k and v [B,heads,N,d] -> [B,heads,N,d].
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    if (site.cross || q.size(2) > max_tokens) return PlainAttention{}(site, q, k, v);
    detail::require_groups("SelfReplace", site, q.size(0), group);
    const auto follows = following(site, q.size(0) / group);
    const auto rows = site.once_a_run<Rows>(this, follows, [&] { return rows_of(follows, q); });
    if (rows.injected.size(0) == 0) return PlainAttention{}(site, q, k, v);
    if (rows.rest.size(0) == 0) return detail::attend_from_source(q, k, v, group);

    const auto take = [](const at::Tensor& x, const at::Tensor& rows) { return at::index_select(x, 0, rows); };
    const auto result = at::cat(
        {detail::attend_from_source(take(q, rows.injected), take(k, rows.injected), take(v, rows.injected), group),
         PlainAttention{}(site, take(q, rows.rest), take(k, rows.rest), take(v, rows.rest))});
    return take(result, rows.back);
  }

 private:
  /// Row indices, int64 on the device of the attention.
  struct Rows {
    at::Tensor injected;  ///< Rows of the groups that still follow their source.
    at::Tensor rest;      ///< The other rows.
    at::Tensor back;      ///< The position of each row in the concatenation of `injected` and `rest`.
  };

  /// Which groups still follow their source (1, else 0).
  std::vector<std::int64_t> following(const AttentionSite& site, std::int64_t groups) const {
    std::vector<std::int64_t> result;
    for (std::int64_t i = 0; i < groups; ++i) {
      result.push_back(share_of(i, site, groups) > site.step.progress() ? 1 : 0);
    }
    return result;
  }

  Rows rows_of(const std::vector<std::int64_t>& follows, const at::Tensor& q) const {
    std::vector<std::int64_t> injected, rest;
    for (std::size_t i = 0; i < follows.size(); ++i) {
      auto& rows = follows[i] != 0 ? injected : rest;
      for (std::int64_t j = 0; j < group; ++j) rows.push_back(static_cast<std::int64_t>(i) * group + j);
    }
    std::vector<std::int64_t> back(static_cast<std::size_t>(q.size(0)));
    std::int64_t place = 0;
    for (const auto* rows : {&injected, &rest}) {
      for (const auto row : *rows) back[static_cast<std::size_t>(row)] = place++;
    }
    const auto index = [&](const std::vector<std::int64_t>& rows) {
      return detail::to_device(at::tensor(rows, at::kLong), q.device());
    };
    return {index(injected), index(rest), index(back)};
  }

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
