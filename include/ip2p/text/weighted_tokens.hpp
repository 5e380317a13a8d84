#pragma once

/// \file
/// The tokens of a prompt that weights its words.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/text/prompt_syntax.hpp"

namespace ip2p {

/// A prompt's tokens, and how much each counts.
struct WeightedTokens {
  Tokens tokens;
  std::vector<double> weights;  ///< One for each of `tokens.ids`; empty if all are 1.
};

/// The tokens of a prompt whose marks are read, see `parse_prompt`; those of a prompt without any are
/// `tokenizer.encode(prompt)`. BOS, EOS and padding count 1. \throws Error as `parse_prompt`, and for a LoRA
inline WeightedTokens weighted_tokens(const BpeTokenizer& tokenizer, std::string_view prompt) {
  if (!has_prompt_marks(prompt)) return {tokenizer.encode(prompt), {}};
  const auto parsed = parse_prompt(prompt);
  require(parsed.loras.empty(),
          "prompt: expected words alone where the model is loaded already, found the LoRA '{}'; write \\< for a plain "
          "one, or name it where the model is opened",
          parsed.loras.empty() ? "" : detail::printable(parsed.loras.front().name));
  if (parsed.plain()) return {tokenizer.encode(parsed.text()), {}};
  std::vector<std::int64_t> ids;
  std::vector<double> weights{1.0};
  for (const auto& part : parsed.parts) {
    const auto words = tokenizer.tokenize(part.text);
    ids.insert(ids.end(), words.begin(), words.end());
    weights.insert(weights.end(), words.size(), part.weight);
  }
  WeightedTokens result{tokenizer.frame(ids), std::move(weights)};
  const auto length = result.tokens.ids.size();
  result.weights.resize(std::min(result.weights.size(), length - 1));  // without what was cut off
  result.weights.resize(length, 1.0);
  return result;
}

}  // namespace ip2p
