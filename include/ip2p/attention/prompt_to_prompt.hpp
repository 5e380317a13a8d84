#pragma once

/// \file
/// Prompt-to-Prompt: an edit of text cross-attention, with self-attention taken from the source for part of the run.

#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include <cstdint>
#include <vector>

#include "ip2p/attention/fused_attention.hpp"
#include "ip2p/attention/groups.hpp"
#include "ip2p/attention/token_edit.hpp"
#include "ip2p/attention/windows.hpp"
#include "ip2p/core/to_device.hpp"

namespace ip2p {

/// Hertz et al. 2022, as implemented in google/prompt-to-prompt. On the rows of branches that see the text,
/// cross-attention of all sizes uses `edit`'s maps for words whose window is open, and self-attention with small maps
/// uses the source's queries and keys. Everything else is `PlainAttention`.
///
/// The rows of each branch are groups of edit.destinations() + 1 images, the source first. Throws `Error` if the rows
/// do not divide into groups, or if the edit is for a different number of tokens than the context has.
template <class Edit>
struct PromptToPrompt {
  static_assert((require_token_edit<Edit>(), true));

  Edit edit;                                     ///< How the edited prompts' maps derive from the source's.
  TokenWindows cross = {};                       ///< Steps during which words take their maps from the source.
  StepWindow self = {.begin = 0.0, .end = 0.4};  ///< Steps during which self-attention does so.
  std::int64_t max_tokens = 32 * 32;             ///< Self-attention maps with more pixels than this are left alone.

  /// q [B,heads,N,d], k and v [B,heads,M,d] -> [B,heads,N,d].
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    const std::int64_t group = edit.destinations() + 1;
    if (!site.cross && (q.size(2) > max_tokens || !self.contains(site.step.index, site.step.count))) {
      return PlainAttention{}(site, q, k, v);
    }
    detail::require_groups("PromptToPrompt", site, q.size(0), group);
    if (!site.cross) {
      return detail::on_text_rows(site, q, k, v, [&](const AttentionSite&, const auto&... rows) {
        return detail::attend_from_source(rows..., group);
      });
    }
    const auto weights = weights_at(site, k.size(2), v);
    if (!weights.from_source.defined() && !weights.changes) return PlainAttention{}(site, q, k, v);
    return detail::on_text_rows(site, q, k, v,
                                [&](const AttentionSite&, const auto&... rows) { return edited(weights, rows...); });
  }

 private:
  /// The weights of a whole group at one step, on the device and in the dtype used for multiplying the values.
  struct GroupWeights {
    at::Tensor from_source;  ///< [g,1,T,T]; undefined if no destination takes anything from its source.
    at::Tensor own;          ///< [g,1,T,1].
    bool keeps = false;      ///< Whether any destination keeps part of its own map.
    bool changes = false;    ///< Whether any weight in `own` is not 1.
  };

  static bool any(const at::Tensor& x) { return x.any().template item<bool>(); }

  /// Cross-attention of whole groups.
  static at::Tensor edited(const GroupWeights& weights, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const auto group = weights.own.size(0);
    const auto dtype = v.scalar_type();
    const auto values = detail::split_groups(v, group).to(weights.own.scalar_type());
    const auto own_values = (values * weights.own).flatten(0, 1).to(dtype);
    if (!weights.from_source.defined()) return detail::attention(q, k, own_values);

    const auto source_values = at::matmul(weights.from_source, values).flatten(0, 1).to(dtype);
    const auto result = detail::attend_from_source(q, k, source_values, group);
    if (!weights.keeps) return result;

    const auto destinations = [&](const at::Tensor& x) {
      return detail::split_groups(x, group).narrow(1, 1, group - 1).flatten(0, 1);
    };
    const auto second = detail::attention(destinations(q), destinations(k), destinations(own_values));
    const auto sum = detail::split_groups(destinations(result) + second, group - 1);
    return at::cat({detail::split_groups(result, group).narrow(1, 0, 1), sum}, 1).flatten(0, 1);
  }

  /// The weights of a step, derived once in the run for each state of the windows where the edit allows it.
  [[nodiscard]] GroupWeights weights_at(const AttentionSite& site, std::int64_t tokens,
                                        const at::Tensor& values) const {
    const auto make = [&] { return group_weights(tokens, site.step, values); };
    if (!same_at_every_step(edit)) return site.once<GroupWeights>(this, tokens, make);
    auto key = cross.open(site.step);
    key.push_back(tokens);
    return site.once_a_run<GroupWeights>(this, key, make);
  }

  /// The weights of a whole group: the source's map unchanged, then each destination's edited map for tokens whose
  /// window is open and its own map for the others. \param values determine the device and dtype of the weights
  [[nodiscard]] GroupWeights group_weights(std::int64_t tokens, const Step& step, const at::Tensor& values) const {
    std::vector<at::Tensor> from_source{at::eye(tokens)};
    std::vector<at::Tensor> own{at::ones({tokens})};
    for (std::int64_t i = 0; i < edit.destinations(); ++i) {
      const TokenWeights one = edit.weights(i, step);
      require(
          one.from_source.sizes() == at::IntArrayRef({tokens, tokens}) && one.own.sizes() == at::IntArrayRef(tokens),
          "PromptToPrompt: edit: expected weights [{0}, {0}] and [{0}], found {1} and {2}", tokens,
          shape_text(one.from_source.sizes()), shape_text(one.own.sizes()));
      const auto open = cross.weights(i, tokens, step);
      from_source.push_back(one.from_source.to(at::kCPU) * open);
      own.push_back(1.0 - open + open * one.own.to(at::kCPU));
    }
    const auto sources = at::stack(from_source);
    const auto owns = at::stack(own);
    const auto destinations = edit.destinations();
    const auto wide = c10::promoteTypes(values.scalar_type(), at::kFloat);  // a third of a token is no bf16
    GroupWeights result;
    const auto placed = [&](const at::Tensor& x) { return detail::to_device(x.to(wide), values.device()); };
    result.own = placed(owns).view({destinations + 1, 1, -1, 1});
    result.keeps = any(owns.narrow(0, 1, destinations));
    result.changes = any(owns.ne(1.0));
    if (any(sources.narrow(0, 1, destinations))) result.from_source = placed(sources).unsqueeze(1);
    return result;
  }
};

template <class Edit>
PromptToPrompt(Edit, TokenWindows = {}, StepWindow = {}, std::int64_t = 0) -> PromptToPrompt<Edit>;

}  // namespace ip2p
