#pragma once

/// \file
/// CLIP's tokenizer, which turns text into the same token ids as transformers' `CLIPTokenizer`.

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "ip2p/io/tokenizer_files.hpp"
#include "ip2p/text/clip_vocabulary.hpp"
#include "ip2p/text/unicode.hpp"

namespace ip2p {

/// One prompt, tokenized for a text encoder.
struct Tokens {
  std::vector<std::int64_t> ids;  ///< `max_length` ids: BOS, the text, EOS, padding.
  std::int64_t count = 0;         ///< Number of tokens in the whole text, without BOS and EOS, before truncation.
  bool truncated = false;         ///< Whether the text was too long.
  std::string dropped;            ///< If truncated, the end that was cut off, in lower case; otherwise "".
};

/// How a text is normalised before it is split into words.
enum class TokenizerText {
  as_written,  ///< As in transformers 5: only Unicode forms, white space and case are normalised.
  /// As in the released program (transformers 4.19 with ftfy 6.1.1): damaged text and typography are repaired too.
  released,
};

/// Options of `BpeTokenizer`.
struct TokenizerOptions {
  TokenizerText text = TokenizerText::as_written;   ///< Whose rules prepare the text.
  InvalidUtf8 invalid_utf8 = InvalidUtf8::replace;  ///< What happens to bytes that are not UTF-8.
  std::int64_t max_length = 0;  ///< Length of `Tokens::ids`; 0: `model_max_length` of the files, or 77.
};

/// Byte-pair tokenizer that behaves exactly like `CLIPTokenizer` in transformers 5.
///
/// The steps are: special tokens are cut out first (from the text as written or after normalisation, depending on the
/// model's files; if the pad token is "!", as in SD 2, every "!" becomes that token); NFC; `\s+` becomes one space;
/// each code point is converted to lower case; the text is split into words, which are contractions, runs of letters,
/// single digits, or runs of other characters; byte-pair merges within each word, whose last token carries `</w>`.
/// There is no HTML unescaping and no ftfy. As in transformers, a literal `<|endoftext|>` in the prompt becomes the
/// special token.
///
/// With `TokenizerText::released` it behaves like the slow `CLIPTokenizer` of transformers 4.19, with which
/// InstructPix2Pix was trained and released: text between special tokens is passed through `repair_text` and converted
/// to lower case with Python's rule for the final sigma, and special tokens are recognised in upper or lower case. The
/// two differ for curly quotes, HTML entities, ligatures, full-width characters, text decoded with the wrong encoding,
/// and control characters, but for little else.
class BpeTokenizer {
 public:
  /// Opens a folder with vocab.json and merges.txt, or just tokenizer.json (as transformers 5 saves it), and, if
  /// present, tokenizer_config.json, special_tokens_map.json and added_tokens.json. Throws `Error` for files that are
  /// missing, damaged or inconsistent.
  static BpeTokenizer open(const std::filesystem::path& folder, TokenizerOptions options = {});

  /// Opens vocab.json and merges.txt. `config` and `special_tokens` are the contents of tokenizer_config.json and
  /// special_tokens_map.json (empty objects for CLIP's standard special tokens). If `vocab` is named tokenizer.json, it
  /// includes the merges and `merges` is not read. Throws `Error` as the other overload does.
  static BpeTokenizer open(const std::filesystem::path& vocab, const std::filesystem::path& merges,
                           const nlohmann::json& config,
                           const nlohmann::json& special_tokens = nlohmann::json::object(),
                           TokenizerOptions options = {});

  /// Opens what `ModelFiles::tokenizer` found.
  static BpeTokenizer open(const TokenizerFiles& files, TokenizerOptions options = {});

  /// Tokenizes one prompt, in time proportional to its length (times the logarithm of its longest word).
  /// Throws `Error` for ill-formed UTF-8 with `InvalidUtf8::error`.
  [[nodiscard]] Tokens encode(std::string_view prompt) const { return frame(tokenize(prompt)); }

  /// The ids of a whole text, as `tokenize` returns them, between BOS and EOS, cut off or padded.
  [[nodiscard]] Tokens frame(const std::vector<std::int64_t>& all) const;

  /// Ids of the whole text, without BOS, EOS, truncation or padding. Throws `Error` as `encode` does.
  [[nodiscard]] std::vector<std::int64_t> tokenize(std::string_view prompt) const;

  /// The text of `ids`, as transformers' `decode` returns it: words separated by single spaces, ill-formed UTF-8
  /// replaced by U+FFFD. Throws `Error` for an id outside the vocabulary.
  [[nodiscard]] std::string decode(std::span<const std::int64_t> ids) const;

  /// Adds `count` tokens with the next free ids. In a text, `word` stands for all of them in order, and "word_1",
  /// "word_2", ... for the second, third, ... alone. Other texts keep their ids.
  ///
  /// As with transformers' `add_tokens`, the word is found in normalised text (ignoring case) wherever it occurs, even
  /// inside a longer word. \return the first id
  /// \throws Error for a word that is empty, starts or ends with white space, or is already a token
  std::int64_t add_token(std::string_view word, std::int64_t count = 1);

  /// Length of `Tokens::ids`.
  [[nodiscard]] std::int64_t max_length() const { return max_length_; }
  /// Number of tokens; ids are below it.
  [[nodiscard]] std::int64_t vocabulary_size() const { return static_cast<std::int64_t>(vocabulary_.tokens.size()); }
  /// Id of the token before a text.
  [[nodiscard]] std::int64_t bos() const { return vocabulary_.bos; }
  /// Id of the token after a text.
  [[nodiscard]] std::int64_t eos() const { return vocabulary_.eos; }
  /// Id of the tokens that fill up the rest.
  [[nodiscard]] std::int64_t pad() const { return vocabulary_.pad; }

 private:
  static constexpr std::string_view word_end = "</w>";

  BpeTokenizer(detail::ClipVocabulary vocabulary, TokenizerOptions options);

  /// In the reference's order: NFC (the last step of a repair), runs of white space to one space, lower case. (Spaces
  /// only separate words, so joining runs of them matters only because an added token can contain a space.)
  [[nodiscard]] std::u32string normalize(std::u32string_view raw) const;

  /// Appends the ids of added tokens found in `text` (leftmost, then longest) and passes the text in between to `rest`.
  template <class Rest>
  void split_added(std::u32string_view text, bool normalized, std::vector<std::int64_t>& ids, Rest rest) const;

  void append_words(std::u32string_view text, std::vector<std::int64_t>& ids) const;

  /// Handles a special token that was written in capitals and so not found earlier.
  void append_special(std::u32string_view token, std::vector<std::int64_t>& ids) const;

  /// Whether `text` starts with `start`. The released tokenizer's case-insensitive expressions match a long s as s.
  [[nodiscard]] bool begins(std::u32string_view text, std::u32string_view start) const;

  [[nodiscard]] std::size_t literal_special(std::u32string_view text) const;

  [[nodiscard]] std::size_t contraction(std::u32string_view text) const;

  void append_word(std::u32string_view word, std::vector<std::int64_t>& ids) const;

  detail::ClipVocabulary vocabulary_;
  std::int64_t max_length_;
  TokenizerText text_;
  InvalidUtf8 invalid_utf8_;
  std::array<std::int64_t, 256> inner_{};  ///< Token of each byte inside a word.
  std::array<std::int64_t, 256> last_{};   ///< Token of each byte at the end of a word.
};

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else they are linked
#include "ip2p/text/bpe_tokenizer_definitions.hpp"
#endif
