#pragma once

/// \file
/// Prompt-to-Prompt's prompt refinement.

#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <span>
#include <vector>

#include "ip2p/attention/token_alignment.hpp"
#include "ip2p/attention/token_edit.hpp"

namespace ip2p {

/// Words are added to a prompt ("a cat" -> "a fluffy cat"): old words keep the source's map, new ones have their own,
/// A_s P diag(a) + A_d diag(1 - a) (Hertz et al. 2022, section 3.2; `AttentionRefine` of google/prompt-to-prompt).
struct Refine {
  at::Tensor mapper;  ///< [D,T], int64: the source's token of each edited token, or -1; see `refine_alignment`.
  at::Tensor alphas;  ///< a [D,T]: 1 where there is one, else 0.

  /// From the words of the source prompt and of each edited prompt. \throws Error unless their contexts have one length
  static Refine between(const PromptTokens& source, std::span<const PromptTokens> edited) {
    std::vector<at::Tensor> mappers;
    std::vector<at::Tensor> alphas;
    for (const auto& prompt : edited) {
      auto alignment = refine_alignment(source, prompt);
      mappers.push_back(std::move(alignment.mapper));
      alphas.push_back(std::move(alignment.alphas));
    }
    return {at::stack(mappers), at::stack(alphas)};
  }

  /// Edited prompts: D.
  [[nodiscard]] std::int64_t destinations() const { return mapper.size(0); }
  /// Whether the weights do not depend on the step.
  [[nodiscard]] static constexpr bool same_at_every_step() { return true; }
  /// The source's map where a word was there already, the prompt's own where it is new; the same on every step.
  [[nodiscard]] TokenWeights weights(std::int64_t destination, const Step& /*step*/) const {
    const auto tokens = mapper.size(1);
    const auto kept = alphas[destination];
    // One 1 in each column: token t receives the map of token mapper[t]. What -1 points to is cancelled by its alpha.
    const auto from =
        at::zeros({tokens, tokens}).scatter_(0, mapper[destination].clamp_min(0).unsqueeze(0), kept.unsqueeze(0));
    return {from, 1.0 - kept};
  }
};
static_assert(TokenEdit<Refine>);

}  // namespace ip2p
