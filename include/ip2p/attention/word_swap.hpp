#pragma once

/// \file
/// Prompt-to-Prompt's word swap.

#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <span>
#include <vector>

#include "ip2p/attention/token_alignment.hpp"
#include "ip2p/attention/token_edit.hpp"

namespace ip2p {

/// For prompts with replaced words ("a cat" -> "a dog"): each word uses the map of the word that it replaces, A_s M
/// (Hertz et al. 2022, section 3.2; `AttentionReplace` in google/prompt-to-prompt).
struct WordSwap {
  at::Tensor alignment;  ///< M [D,T,T] for D edited prompts; see `swap_alignment`.

  /// The edit from `source` to D edited prompts. Throws `Error` unless all have as many words as the source.
  static WordSwap between(const PromptTokens& source, std::span<const PromptTokens> edited) {
    std::vector<at::Tensor> matrices;
    for (const auto& prompt : edited) matrices.push_back(swap_alignment(source, prompt));
    return {at::stack(matrices)};
  }

  /// Edited prompts: D.
  [[nodiscard]] std::int64_t destinations() const { return alignment.size(0); }
  /// Whether the weights do not depend on the step.
  [[nodiscard]] static constexpr bool same_at_every_step() { return true; }
  /// The source's map, its tokens moved to where the edited prompt has them; the same on every step.
  [[nodiscard]] TokenWeights weights(std::int64_t destination, const Step& /*step*/) const {
    return {alignment[destination], at::zeros({alignment.size(1)})};
  }
};
static_assert(TokenEdit<WordSwap>);

}  // namespace ip2p
