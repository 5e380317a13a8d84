#pragma once

/// \file
/// Maps the words of a prompt to token positions in the context.

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// The words of a prompt and their tokens, found as in google/prompt-to-prompt: words are separated by white space
/// (punctuation belongs to the adjacent word), and tokens are assigned to words by counting the letters that they
/// spell. Positions start with 0 for BOS, so the first token of the text has position 1.
class PromptTokens {
 public:
  /// \param ids token ids of the whole text, without BOS and EOS; those that do not fit into the context are dropped
  /// \param pieces the text of each id, in UTF-8  \param length number of tokens in the context, including BOS and EOS
  /// \throws Error for a length below 2 and unless there is one piece per id
  PromptTokens(std::string_view text, std::vector<std::int64_t> ids, const std::vector<std::string>& pieces,
               std::int64_t length = 77)
      : ids_(std::move(ids)), length_(length) {
    require(length_ >= 2, "PromptTokens: length: expected at least 2, found {}", length_);
    require(pieces.size() == ids_.size(), "PromptTokens: pieces: expected {}, one per token, found {}", ids_.size(),
            pieces.size());
    ids_.resize(std::min(ids_.size(), static_cast<std::size_t>(length_ - 2)));
    constexpr std::string_view blanks = " \t\n\v\f\r";
    for (std::size_t begin = 0; (begin = text.find_first_not_of(blanks, begin)) != std::string_view::npos;) {
      const auto end = std::min(text.find_first_of(blanks, begin), text.size());
      words_.emplace_back(text.substr(begin, end - begin));
      begin = end;
    }
    positions_.resize(words_.size());
    std::size_t spelled = 0;
    for (std::size_t i = 0, word = 0; i < ids_.size() && word < words_.size(); ++i) {
      positions_[word].push_back(static_cast<std::int64_t>(i) + 1);
      spelled += letters(pieces[i]);
      if (spelled < letters(words_[word])) continue;
      ++word;
      spelled = 0;
    }
  }

  /// Ids of the text, without BOS and EOS, as far as the context has room for them.
  [[nodiscard]] const std::vector<std::int64_t>& ids() const { return ids_; }
  /// The words, in order and spelled as in the prompt.
  [[nodiscard]] const std::vector<std::string>& words() const { return words_; }
  /// Tokens of the context, with BOS and EOS.
  [[nodiscard]] std::int64_t length() const { return length_; }

  /// Token positions of word `index`; empty if the word is beyond the end of the context.
  [[nodiscard]] const std::vector<std::int64_t>& tokens_of(std::size_t index) const { return positions_.at(index); }

  /// Token positions of all occurrences of `word`, spelled as in the prompt; empty if the prompt does not contain it.
  [[nodiscard]] std::vector<std::int64_t> find(std::string_view word) const {
    std::vector<std::int64_t> found;
    for (std::size_t i = 0; i < words_.size(); ++i) {
      if (words_[i] == word) found.insert(found.end(), positions_[i].begin(), positions_[i].end());
    }
    return found;
  }

  /// The same, but throws `Error` listing the prompt's words if there is no such word.
  [[nodiscard]] std::vector<std::int64_t> tokens_of(std::string_view word) const {
    auto found = find(word);
    require(!found.empty(), "word '{}': expected one of the prompt's words ({}), found none such", word,
            fmt::join(words_, ", "));
    return found;
  }

 private:
  /// Number of code points, found by skipping continuation bytes.
  static std::size_t letters(std::string_view utf8) {
    return static_cast<std::size_t>(std::ranges::count_if(utf8, [](char c) { return (c & 0xC0) != 0x80; }));
  }

  std::vector<std::int64_t> ids_;
  std::vector<std::string> words_;
  std::vector<std::vector<std::int64_t>> positions_;
  std::int64_t length_;
};

/// Makes `PromptTokens` with a tokenizer that has `tokenize(text)`, `decode(ids)` and `max_length()`, like
/// `BpeTokenizer`.
template <class Tokenizer>
PromptTokens prompt_tokens(const Tokenizer& tokenizer, std::string_view text) {
  auto ids = tokenizer.tokenize(text);
  std::vector<std::string> pieces;
  for (const std::int64_t id : ids) pieces.push_back(tokenizer.decode(std::span(&id, 1)));
  return {text, std::move(ids), pieces, tokenizer.max_length()};
}

}  // namespace ip2p
