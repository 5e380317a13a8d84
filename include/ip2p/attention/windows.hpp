#pragma once

/// \file
/// The steps of a run during which an attention edit applies, for all words or word by word.

#include <ATen/ops/full.h>

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/prompt_tokens.hpp"
#include "ip2p/core/step.hpp"

namespace ip2p {

/// Steps from `begin` up to but not including `end`, as shares of a run, rounded as in google/prompt-to-prompt:
/// int(begin * count) <= index < int(end * count) in double precision.
struct StepWindow {
  double begin = 0.0;  ///< First step, as a share of the run.
  double end = 1.0;    ///< End, exclusive, as a share of the run.

  /// Whether step `index` of `count`, counted from 0, lies in the window.
  [[nodiscard]] bool contains(std::int64_t index, std::int64_t count) const {
    const auto edge = [&](double share) { return static_cast<std::int64_t>(share * static_cast<double>(count)); };
    return edge(begin) <= index && index < edge(end);
  }
};

/// When the words of the edited prompts take their maps from the source: a common window, and separate ones for
/// individual words (the dictionary `cross_replace_steps` in google/prompt-to-prompt, which counts one step more than
/// the run has).
struct TokenWindows {
  /// A window for some of the words of one edited prompt.
  struct Word {
    std::int64_t destination;          ///< Index of the edited image in its group, from 0.
    std::vector<std::int64_t> tokens;  ///< Token positions in its prompt.
    StepWindow window;                 ///< Replaces the common window.
  };

  StepWindow common = {.begin = 0.0, .end = 0.8};  ///< For all tokens that `words` does not name.
  std::vector<Word> words = {};                    ///< Of several for one token the last counts.

  /// Which windows are open on this step (1, else 0): the common one, then those of `words`. Steps with equal answers
  /// have equal `weights`.
  [[nodiscard]] std::vector<std::int64_t> open(const Step& step) const {
    std::vector<std::int64_t> result{is_open(common, step) ? 1 : 0};
    for (const auto& word : words) result.push_back(is_open(word.window, step) ? 1 : 0);
    return result;
  }

  /// [tokens]: 1 if the token takes the source's map at this step, else 0. Throws `Error` for a position out of range.
  [[nodiscard]] at::Tensor weights(std::int64_t destination, std::int64_t tokens, const Step& step) const {
    const auto on = [&](const StepWindow& window) { return is_open(window, step) ? 1.0F : 0.0F; };
    at::Tensor result = at::full({tokens}, on(common));
    auto value = result.accessor<float, 1>();
    for (const auto& word : words) {
      if (word.destination != destination) continue;
      for (const auto position : word.tokens) {
        require(position >= 0 && position < tokens, "windows: token: expected 0 ... {}, found {}", tokens - 1,
                position);
        value[position] = on(word.window);
      }
    }
    return result;
  }

 private:
  static bool is_open(const StepWindow& window, const Step& step) {
    return window.contains(step.index, step.count + 1);
  }
};

/// Makes `TokenWindows` from words of the edited prompts. Throws `Error` for a word that is in none of them.
inline TokenWindows word_windows(std::span<const PromptTokens> edited, StepWindow common,
                                 const std::vector<std::pair<std::string, StepWindow>>& words) {
  TokenWindows result{.common = common};
  for (const auto& [word, window] : words) {
    bool found = false;
    for (std::size_t i = 0; i < edited.size(); ++i) {
      auto tokens = edited[i].find(word);
      if (tokens.empty()) continue;
      found = true;
      result.words.push_back({static_cast<std::int64_t>(i), std::move(tokens), window});
    }
    require(found, "windows: expected words of the edited prompts, found '{}'", word);
  }
  return result;
}

}  // namespace ip2p
