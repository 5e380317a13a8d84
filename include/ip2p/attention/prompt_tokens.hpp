#pragma once

/// \file
/// A prompt as attention sees it: which token of the context belongs to which word.

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

/// The words of a prompt and their tokens, by the rule of google/prompt-to-prompt: words are what white space sets
/// apart (punctuation belongs to the word that it touches), and tokens are dealt out to them by counting the letters
/// that each token spells. Positions count from 0 at BOS, so that the first token of the text has position 1.
class PromptTokens {
 public:
  /// \param ids of the whole text, without BOS and EOS; those that the context has no room for are dropped
  /// \param pieces the text of each id, in UTF-8  \param length tokens of the context, with BOS and EOS
  PromptTokens(std::string_view text, std::vector<std::int64_t> ids, const std::vector<std::string>& pieces,
               std::int64_t length = 77)
      : ids_(std::move(ids)), length_(length) {
    require(length_ >= 2, "PromptTokens: length: expected at least 2, found {}", length_);
    require(pieces.size() == ids_.size(), "PromptTokens: pieces: expected {}, one a token, found {}", ids_.size(),
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

  /// Positions of word `index`; empty where the context ended before it.
  [[nodiscard]] const std::vector<std::int64_t>& tokens_of(std::size_t index) const { return positions_.at(index); }

  /// Positions of each occurrence of `word`, spelled as in the prompt; empty where the prompt has no such word.
  [[nodiscard]] std::vector<std::int64_t> find(std::string_view word) const {
    std::vector<std::int64_t> found;
    for (std::size_t i = 0; i < words_.size(); ++i) {
      if (words_[i] == word) found.insert(found.end(), positions_[i].begin(), positions_[i].end());
    }
    return found;
  }

  /// The same. Throws `Error` that lists the words where there is none.
  [[nodiscard]] std::vector<std::int64_t> tokens_of(std::string_view word) const {
    auto found = find(word);
    require(!found.empty(), "word '{}': expected one of the prompt's words ({}), found none such", word,
            fmt::join(words_, ", "));
    return found;
  }

 private:
  /// Code points: bytes that do not continue one.
  static std::size_t letters(std::string_view utf8) {
    return static_cast<std::size_t>(std::ranges::count_if(utf8, [](char c) { return (c & 0xC0) != 0x80; }));
  }

  std::vector<std::int64_t> ids_;
  std::vector<std::string> words_;
  std::vector<std::vector<std::int64_t>> positions_;
  std::int64_t length_;
};

/// A prompt by a tokenizer that has `tokenize(text)`, `decode(ids)` and `max_length()`, as `BpeTokenizer` does.
template <class Tokenizer>
PromptTokens prompt_tokens(const Tokenizer& tokenizer, std::string_view text) {
  auto ids = tokenizer.tokenize(text);
  std::vector<std::string> pieces;
  for (const std::int64_t id : ids) pieces.push_back(tokenizer.decode(std::span(&id, 1)));
  return {text, std::move(ids), pieces, tokenizer.max_length()};
}

}  // namespace ip2p
