#pragma once

/// \file
/// GPT-2's tokenizer: any text to token ids and back, equal to transformers' `GPT2TokenizerFast`.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/text/byte_alphabet.hpp"
#include "ip2p/text/byte_pair_vocabulary.hpp"
#include "ip2p/text/unicode.hpp"

namespace ip2p {

namespace detail {

/// Length in code points of the first piece of `text`, which must not be empty. The published expression is
/// ``'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+``.
inline std::size_t gpt2_piece(std::u32string_view text) {
  if (text.front() == U'\'') {
    for (const std::u32string_view ending : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"}) {
      if (text.starts_with(ending)) return ending.size();
    }
  }
  enum class Kind { letter, number, space, other };
  const auto kind = [&](std::size_t i) {
    return is_letter(text[i])        ? Kind::letter
           : is_number(text[i])      ? Kind::number
           : is_white_space(text[i]) ? Kind::space
                                     : Kind::other;
  };
  const std::size_t first = text.front() == U' ' && text.size() > 1 && kind(1) != Kind::space ? 1 : 0;
  const auto wanted = kind(first);
  std::size_t end = first + 1;
  while (end < text.size() && kind(end) == wanted) ++end;
  // The last of several spaces belongs to the word that follows.
  if (wanted == Kind::space && end < text.size() && end > 1) --end;
  return end;
}

}  // namespace detail

/// Byte-level byte-pair tokenizer of the GPT-2 family.
///
/// Special tokens are matched literally; the rest is split into contractions, runs of letters, numbers or other
/// characters, each with an optional leading space, and white space; then the bytes of each piece are merged. There is
/// no normalisation: decoding restores every text exactly.
class Gpt2Tokenizer {
 public:
  /// Opens a folder with vocab.json and merges.txt, or with tokenizer.json alone, and, where present,
  /// tokenizer_config.json and special_tokens_map.json.
  /// \param name of the folder, or on the Hugging Face Hub for a model in its cache
  /// \throws Error for files that are missing, damaged, or from another kind of tokenizer
  static Gpt2Tokenizer open(const std::filesystem::path& name, InvalidUtf8 invalid_utf8 = InvalidUtf8::replace);

  /// Ids of a text, in time proportional to its length (times the logarithm of its longest word).
  /// \throws Error for ill-formed UTF-8 under `InvalidUtf8::error`
  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text) const {
    std::vector<std::int64_t> ids;
    const auto points = detail::decode_utf8(text, invalid_utf8_);
    const std::u32string_view all(points);
    std::size_t begin = 0;
    for (std::size_t i = 0; i < all.size();) {
      const Special* found = nullptr;
      for (const auto& special : specials_) {
        if (all.substr(i).starts_with(special.content) &&
            (found == nullptr || special.content.size() > found->content.size())) {
          found = &special;
        }
      }
      if (found == nullptr) {
        ++i;
        continue;
      }
      append_pieces(all.substr(begin, i - begin), ids);
      ids.push_back(found->id);
      begin = i += found->content.size();
    }
    append_pieces(all.substr(begin), ids);
    return ids;
  }

  /// Text of ids, special tokens included; ill-formed UTF-8 becomes U+FFFD. \throws Error for an id outside the
  /// vocabulary
  [[nodiscard]] std::string decode(std::span<const std::int64_t> ids) const {
    std::string bytes;
    for (const auto id : ids) bytes += bytes_of(id);
    return detail::encode_utf8(detail::decode_utf8(bytes, InvalidUtf8::replace));
  }

  /// The bytes of one token, possibly only part of a character. \throws Error for an id outside the vocabulary
  [[nodiscard]] const std::string& bytes_of(std::int64_t id) const {
    require(id >= 0 && id < vocabulary_size(), "token id: expected 0 .. {}, found {}", vocabulary_size() - 1, id);
    return bytes_[static_cast<std::size_t>(id)];
  }

  /// Number of tokens; ids are below it.
  [[nodiscard]] std::int64_t vocabulary_size() const { return static_cast<std::int64_t>(bytes_.size()); }

  /// The token that ends a text.
  [[nodiscard]] std::int64_t eos() const { return eos_; }

 private:
  struct Special {
    std::u32string content;
    std::int64_t id = 0;
  };

  Gpt2Tokenizer(detail::BytePairVocabulary vocabulary, const nlohmann::json& listed, const nlohmann::json& config,
                InvalidUtf8 invalid_utf8, const std::string& where);

  void add_special(const nlohmann::json& value, const std::string& role, std::int64_t given_id,
                   detail::BytePairVocabulary& vocabulary, const std::string& where);

  void append_pieces(std::u32string_view text, std::vector<std::int64_t>& ids) const {
    std::vector<std::int64_t> tokens;
    while (!text.empty()) {
      const auto size = detail::gpt2_piece(text);
      tokens.clear();
      for (const char byte : detail::encode_utf8(text.substr(0, size))) {
        tokens.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
      }
      pairs_.merge(tokens);
      ids.insert(ids.end(), tokens.begin(), tokens.end());
      text.remove_prefix(size);
    }
  }

  detail::BytePairs pairs_;
  std::vector<std::string> bytes_;  ///< By id.
  std::array<std::int64_t, 256> byte_ids_{};
  std::vector<Special> specials_;
  std::int64_t eos_ = 0;
  InvalidUtf8 invalid_utf8_;
};

inline void Gpt2Tokenizer::add_special(const nlohmann::json& value, const std::string& role, std::int64_t given_id,
                                       detail::BytePairVocabulary& vocabulary, const std::string& where) {
  std::string content = value.is_string() ? value.get<std::string>() : std::string();
  if (value.is_object()) {
    content = value.contains("content") && value["content"].is_string() ? value["content"].get<std::string>() : "";
    for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
      require(!value.value(flag, false), "{}: {} '{}': expected {} false, found true, which is not supported", where,
              role, detail::printable(content), flag);
    }
  }
  require(!content.empty(), "{}: {}: expected a text or an object with \"content\", found {}", where, role,
          detail::json_text(value));
  if (given_id >= 0 && !vocabulary.ids.contains(content)) {
    require(given_id == static_cast<std::int64_t>(vocabulary.tokens.size()),
            "{}: {} '{}': expected id {}, the next one of the vocabulary, found {}", where, role,
            detail::printable(content), vocabulary.tokens.size(), given_id);
    vocabulary.tokens.push_back(content);
    vocabulary.ids.emplace(content, given_id);
  }
  const auto id = vocabulary.id_of(content, role, where);
  if (std::none_of(specials_.begin(), specials_.end(), [&](const Special& other) { return other.id == id; })) {
    specials_.push_back({detail::decode_utf8(content, InvalidUtf8::replace), id});
  }
}

inline Gpt2Tokenizer::Gpt2Tokenizer(detail::BytePairVocabulary vocabulary, const nlohmann::json& listed,
                                    const nlohmann::json& config, InvalidUtf8 invalid_utf8, const std::string& where)
    : invalid_utf8_(invalid_utf8) {
  if (listed.is_array()) {
    for (const auto& value : listed) {
      require(value.is_object() && value.contains("id") && value["id"].is_number_integer(),
              "{}: added_tokens: expected an object with an integer \"id\", found {}", where, detail::json_text(value));
      add_special(value, "added token", value["id"].get<std::int64_t>(), vocabulary, where);
    }
  } else if (config.contains("added_tokens_decoder") && config["added_tokens_decoder"].is_object()) {
    std::vector<std::pair<std::int64_t, nlohmann::json>> by_id;
    for (const auto& [key, value] : config["added_tokens_decoder"].items()) {
      require(!key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos,
              "{}: added_tokens_decoder: expected an id, found '{}'", where, detail::printable(key));
      by_id.emplace_back(std::stoll(key), value);
    }
    std::sort(by_id.begin(), by_id.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [id, value] : by_id) add_special(value, "added token", id, vocabulary, where);
  }
  for (const char* role : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    const auto value = config.value(role, nlohmann::json());
    if (!value.is_null()) add_special(value, role, -1, vocabulary, where);
  }
  const auto named = config.value("eos_token", nlohmann::json());
  const auto eos = named.is_object() ? named.value("content", "") : named.is_string() ? named.get<std::string>() : "";
  const std::string end = eos.empty() ? "<|endoftext|>" : eos;
  add_special(end, "eos_token", -1, vocabulary, where);
  eos_ = vocabulary.id_of(end, "eos_token", where);

  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string name;
    detail::append_utf8(name, detail::character_of_byte(byte));
    byte_ids_[byte] = vocabulary.id_of(name, "byte", where);
  }
  for (const auto& token : vocabulary.tokens) {
    std::string bytes;
    bool spelled = true;
    for (const char32_t c : detail::decode_utf8(token, InvalidUtf8::replace)) {
      const int byte = detail::byte_of_character(c);
      spelled = spelled && byte >= 0;
      bytes += static_cast<char>(byte);
    }
    bytes_.push_back(spelled ? bytes : token);  // Added tokens may use characters outside the byte alphabet.
  }
  pairs_ = std::move(vocabulary.pairs);
}

inline Gpt2Tokenizer Gpt2Tokenizer::open(const std::filesystem::path& name, InvalidUtf8 invalid_utf8) try {
  const auto folder = detail::resolved_if_cached(name);
  require(std::filesystem::is_directory(folder), "{}: expected a folder with a tokenizer, found none", folder.string());
  const auto optional = [&](const char* file) {
    return std::filesystem::exists(folder / file) ? detail::read_json_object(folder / file) : nlohmann::json::object();
  };
  auto config = optional("tokenizer_config.json");
  detail::BytePairVocabulary vocabulary;
  const auto whole_path = folder / "tokenizer.json";
  if (std::filesystem::exists(folder / "vocab.json") || !std::filesystem::exists(whole_path)) {
    if (!config.contains("added_tokens_decoder")) config.update(optional("special_tokens_map.json"));
    vocabulary.read_tokens(detail::read_json_object(folder / "vocab.json"), (folder / "vocab.json").string());
    vocabulary.read_merges(folder / "merges.txt");
    return {std::move(vocabulary), nullptr, config, invalid_utf8, folder.string()};
  }
  const auto whole = detail::read_json_object(whole_path);
  const auto where = whole_path.string();
  vocabulary.read_model(whole.value("model", nlohmann::json()), where);
  const auto splitter = whole.value("pre_tokenizer", nlohmann::json());
  require(splitter.is_object() && splitter.value("type", "") == "ByteLevel" &&
              !splitter.value("add_prefix_space", true) && splitter.value("use_regex", true) &&
              whole.value("normalizer", nlohmann::json()).is_null(),
          "{}: expected GPT-2's tokenizer (pre_tokenizer ByteLevel without a prefix space, no normalizer), found {}",
          where, detail::json_text(splitter));
  return {std::move(vocabulary), whole.value("added_tokens", nlohmann::json()), config, invalid_utf8, where};
} catch (const nlohmann::json::exception& error) {
  throw_error("{}: expected the files of GPT-2's tokenizer, found {}", name.string(), detail::json_fault(error));
}

}  // namespace ip2p
