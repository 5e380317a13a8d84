#pragma once

/// \file
/// Aligns the tokens of an edited prompt with those of its source prompt, as `seq_aligner.py` of
/// google/prompt-to-prompt does.

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/prompt_tokens.hpp"

namespace ip2p {

namespace detail {

inline void require_one_length(const PromptTokens& source, const PromptTokens& edited) {
  require(source.length() == edited.length(), "prompts: expected contexts of one length, found {} and {} tokens",
          source.length(), edited.length());
}

}  // namespace detail

/// The matrix M [T,T] for prompts with the same number of words. The columns of an unchanged word have a 1 at the
/// source's tokens of that word. A changed word's tokens are paired one to one if both words have equally many;
/// otherwise each of its n tokens gets 1/n of each of the source word's tokens. After the last changed word, every
/// position maps to itself. Throws `Error` for different numbers of words, because it is then unclear which word became
/// which, and for contexts of different lengths.
inline at::Tensor swap_alignment(const PromptTokens& source, const PromptTokens& edited) {
  detail::require_one_length(source, edited);
  const auto words = source.words().size();
  require(words == edited.words().size(), "word swap: expected prompts of equally many words, found {} and {}", words,
          edited.words().size());
  std::vector<std::size_t> changed;
  for (std::size_t i = 0; i < words; ++i) {
    if (source.words()[i] != edited.words()[i] && !source.tokens_of(i).empty() && !edited.tokens_of(i).empty()) {
      changed.push_back(i);
    }
  }
  const auto length = source.length();
  at::Tensor matrix = at::zeros({length, length});
  auto entry = matrix.accessor<float, 2>();
  std::size_t next = 0;
  for (std::int64_t i = 0, j = 0; i < length && j < length;) {
    if (next == changed.size()) {
      entry[j][j] = 1.0F;
      ++i, ++j;
      continue;
    }
    const auto& from = source.tokens_of(changed[next]);
    const auto& to = edited.tokens_of(changed[next]);
    if (from.front() != i) {
      entry[i++][j++] = 1.0F;
      continue;
    }
    for (std::size_t s = 0; s < from.size(); ++s) {
      for (std::size_t t = 0; t < to.size(); ++t) {
        if (from.size() == to.size() && s != t) continue;
        entry[from[s]][to[t]] = from.size() == to.size() ? 1.0F : 1.0F / static_cast<float>(to.size());
      }
    }
    i += static_cast<std::int64_t>(from.size());
    j += static_cast<std::int64_t>(to.size());
    ++next;
  }
  return matrix;
}

/// Which source token each token of an edited prompt corresponds to, for `Refine`.
struct RefineAlignment {
  at::Tensor mapper;  ///< [T], int64: the source token, or -1 if the edited token is new.
  at::Tensor alphas;  ///< [T]: 1 if there is a source token, 0 if the token is new.
};

/// Global alignment of the two token sequences, including BOS and EOS (Needleman and Wunsch 1970; match 1, mismatch -1,
/// gap 0; ties prefer a new token in the edited prompt, then a dropped token of the source). Positions after the edited
/// prompt's EOS map to themselves. Throws `Error` for contexts of different lengths.
inline RefineAlignment refine_alignment(const PromptTokens& source, const PromptTokens& edited) {
  detail::require_one_length(source, edited);
  const auto whole = [](const PromptTokens& prompt) {
    std::vector<std::int64_t> ids{-1};  // -1 and -2 stand for BOS and EOS, because they are never ids of a text
    ids.insert(ids.end(), prompt.ids().begin(), prompt.ids().end());
    ids.push_back(-2);
    return ids;
  };
  const auto x = whole(source);
  const auto y = whole(edited);
  enum class From { fresh, dropped, both };
  std::vector<std::vector<int>> score(x.size() + 1, std::vector<int>(y.size() + 1, 0));
  std::vector<std::vector<From>> from(x.size() + 1, std::vector<From>(y.size() + 1, From::fresh));
  for (std::size_t i = 1; i <= x.size(); ++i) {
    from[i][0] = From::dropped;
    for (std::size_t j = 1; j <= y.size(); ++j) {
      const int fresh = score[i][j - 1];
      const int dropped = score[i - 1][j];
      const int both = score[i - 1][j - 1] + (x[i - 1] == y[j - 1] ? 1 : -1);
      score[i][j] = std::max({fresh, dropped, both});
      from[i][j] = score[i][j] == fresh ? From::fresh : score[i][j] == dropped ? From::dropped : From::both;
    }
  }
  RefineAlignment result{at::arange(source.length(), at::kLong), at::ones({source.length()})};
  auto mapper = result.mapper.accessor<std::int64_t, 1>();
  auto alphas = result.alphas.accessor<float, 1>();
  for (std::size_t i = x.size(), j = y.size(); j > 0;) {
    const From step = from[i][j];
    if (step != From::fresh) --i;
    if (step == From::dropped) continue;
    --j;
    const auto token = static_cast<std::int64_t>(j);
    mapper[token] = step == From::both ? static_cast<std::int64_t>(i) : -1;
    alphas[token] = step == From::both ? 1.0F : 0.0F;
  }
  return result;
}

/// Scales [T] for `Reweight`: the given scale at the tokens of each named word, 1 elsewhere. Throws `Error` for a word
/// that is not in the prompt.
inline at::Tensor equalizer(const PromptTokens& prompt, const std::vector<std::pair<std::string, double>>& scales) {
  at::Tensor result = at::ones({prompt.length()});
  auto value = result.accessor<float, 1>();
  for (const auto& [word, scale] : scales) {
    for (const auto position : prompt.tokens_of(word)) value[position] = static_cast<float>(scale);
  }
  return result;
}

}  // namespace ip2p
