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

/// For prompts with added words ("a cat" -> "a fluffy cat"): existing words keep the source's map, new ones use their
/// own, A_s P diag(a) + A_d diag(1 - a) (Hertz et al. 2022, section 3.2; `AttentionRefine` in google/prompt-to-prompt).
struct Refine {
  at::Tensor mapper;  ///< [D,T], int64: the source token for each edited token, or -1; see `refine_alignment`.
  at::Tensor alphas;  ///< a [D,T]: 1 if there is a source token, else 0.

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
    const auto kept = alphas[destination].to(at::kCPU);  // where all weights are made
    // A single 1 in each column: token t gets the map of token mapper[t]. Where the mapper is -1, alpha makes it 0.
    const auto sources = mapper[destination].to(at::kCPU).clamp_min(0);
    const auto from = at::zeros({tokens, tokens}).scatter_(0, sources.unsqueeze(0), kept.unsqueeze(0));
    return {from, 1.0 - kept};
  }
};
static_assert(TokenEdit<Refine>);

}  // namespace ip2p
