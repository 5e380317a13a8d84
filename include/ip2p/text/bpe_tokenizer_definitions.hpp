#pragma once

/// \file
/// The definitions behind bpe_tokenizer.hpp.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/definitions.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/tokenizer_files.hpp"
#include "ip2p/text/bpe_tokenizer.hpp"
#include "ip2p/text/byte_alphabet.hpp"
#include "ip2p/text/clip_vocabulary.hpp"
#include "ip2p/text/text_repair.hpp"
#include "ip2p/text/unicode.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

IP2P_INLINE BpeTokenizer::BpeTokenizer(detail::ClipVocabulary vocabulary, TokenizerOptions options)
    : vocabulary_(std::move(vocabulary)),
      max_length_(options.max_length ? options.max_length : vocabulary_.max_length),
      text_(options.text),
      invalid_utf8_(options.invalid_utf8) {
  if (text_ == TokenizerText::released) {  // transformers 4.19 searches for them in the text as written
    for (auto& token : vocabulary_.added) {
      token.normalized = false;
      token.content = detail::decode_utf8(vocabulary_.tokens[static_cast<std::size_t>(token.id)], InvalidUtf8::replace);
    }
  }
  require(max_length_ >= 2, "max_length: expected at least 2, found {}", max_length_);
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string name;
    detail::append_utf8(name, detail::character_of_byte(byte));
    const auto find = [&](const std::string& token) {
      const auto found = vocabulary_.ids.find(token);
      return found == vocabulary_.ids.end() ? vocabulary_.unknown : found->second;
    };
    inner_[byte] = find(name);
    last_[byte] = find(name + std::string(word_end));
  }
}

IP2P_INLINE BpeTokenizer BpeTokenizer::open(const std::filesystem::path& folder, TokenizerOptions options) {
  require(std::filesystem::is_directory(folder), "{}: expected a folder with a tokenizer, found none", folder.string());
  return BpeTokenizer(detail::ClipVocabulary::open(folder), options);
}

IP2P_INLINE BpeTokenizer BpeTokenizer::open(const std::filesystem::path& vocab, const std::filesystem::path& merges,
                                            const nlohmann::json& config, const nlohmann::json& special_tokens,
                                            TokenizerOptions options) {
  return BpeTokenizer(detail::ClipVocabulary::open(vocab, merges, config, special_tokens), options);
}

IP2P_INLINE BpeTokenizer BpeTokenizer::open(const TokenizerFiles& files, TokenizerOptions options) {
  return BpeTokenizer(detail::ClipVocabulary::open(files.vocab, files.merges, files.config, files.special_tokens,
                                                   files.added, files.listed),
                      options);
}

IP2P_INLINE Tokens BpeTokenizer::frame(const std::vector<std::int64_t>& all) const {
  const auto room = static_cast<std::size_t>(max_length_ - 2);
  const auto kept = std::min(all.size(), room);
  Tokens out;
  out.count = static_cast<std::int64_t>(all.size());
  out.truncated = all.size() > room;
  if (out.truncated) out.dropped = decode(std::span(all).subspan(kept));
  out.ids.reserve(static_cast<std::size_t>(max_length_));
  out.ids.push_back(vocabulary_.bos);
  out.ids.insert(out.ids.end(), all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept));
  out.ids.push_back(vocabulary_.eos);
  out.ids.resize(static_cast<std::size_t>(max_length_), vocabulary_.pad);
  return out;
}

template <class Rest>
void BpeTokenizer::split_added(std::u32string_view text, bool normalized, std::vector<std::int64_t>& ids,
                               Rest rest) const {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const detail::AddedToken* found = nullptr;
    for (const auto& token : vocabulary_.added) {
      if (token.normalized == normalized && text.substr(i).starts_with(token.content) &&
          (found == nullptr || token.content.size() > found->content.size())) {
        found = &token;
      }
    }
    if (found == nullptr) {
      ++i;
      continue;
    }
    if (i > begin) rest(text.substr(begin, i - begin));
    for (std::int64_t k = 0; k < found->count; ++k) ids.push_back(found->id + k);
    i += found->content.size();
    begin = i;
  }
  if (begin < text.size()) rest(text.substr(begin));
}

IP2P_INLINE std::vector<std::int64_t> BpeTokenizer::tokenize(std::string_view prompt) const {
  std::vector<std::int64_t> ids;
  const auto text = detail::decode_utf8(prompt, invalid_utf8_);
  split_added(text, false, ids, [&](std::u32string_view raw) {
    const auto normal = normalize(raw);
    split_added(normal, true, ids, [&](std::u32string_view part) { append_words(part, ids); });
  });
  return ids;
}

IP2P_INLINE std::string BpeTokenizer::decode(std::span<const std::int64_t> ids) const {
  std::string bytes;
  for (const auto id : ids) {
    require(id >= 0 && id < vocabulary_size(), "token id: expected 0 .. {}, found {}", vocabulary_size() - 1, id);
    for (const char32_t c :
         detail::decode_utf8(vocabulary_.tokens[static_cast<std::size_t>(id)], InvalidUtf8::replace)) {
      const int byte = detail::byte_of_character(c);
      if (byte >= 0) {
        bytes += static_cast<char>(byte);
      } else {
        detail::append_utf8(bytes, c);
      }
    }
  }
  const auto text = detail::encode_utf8(detail::decode_utf8(bytes, InvalidUtf8::replace));
  std::string words;
  words.reserve(text.size());
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find(word_end, begin), text.size());
    words.append(text, begin, end - begin);
    if (end < text.size()) words += ' ';
    begin = end + word_end.size();
  }
  const auto is_blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  const auto end = std::find_if_not(words.rbegin(), words.rend(), is_blank).base();
  return {std::find_if_not(words.begin(), end, is_blank), end};
}

IP2P_INLINE std::int64_t BpeTokenizer::add_token(std::string_view word, std::int64_t count) {
  require(count >= 1, "token '{}': expected at least 1 id, found {}", word, count);
  const auto raw = detail::decode_utf8(word, InvalidUtf8::error);
  require(!raw.empty() && !detail::is_white_space(raw.front()) && !detail::is_white_space(raw.back()),
          "token '{}': expected a word without white space around it, found {}", word,
          raw.empty() ? "an empty text" : "white space");
  std::vector<std::string> names{detail::encode_utf8(normalize(raw))};
  for (std::int64_t i = 1; i < count; ++i) names.push_back(fmt::format("{}_{}", names[0], i));
  for (const auto& name : names) {
    const bool known = vocabulary_.ids.contains(name) || vocabulary_.ids.contains(name + std::string(word_end));
    require(!known, "token '{}': expected a new word, but '{}' is already a token; choose another word", word, name);
  }
  const auto first = vocabulary_size();
  for (std::int64_t i = 0; i < count; ++i) {
    const auto& name = names[static_cast<std::size_t>(i)];
    vocabulary_.tokens.push_back(name);
    vocabulary_.ids.emplace(name, first + i);
    vocabulary_.added.push_back({.content = detail::decode_utf8(name, InvalidUtf8::error),
                                 .id = first + i,
                                 .count = i == 0 ? count : 1,
                                 .normalized = true});
  }
  return first;
}

IP2P_INLINE std::u32string BpeTokenizer::normalize(std::u32string_view raw) const {
  const bool released = text_ == TokenizerText::released;
  const auto text = released ? repair_text(raw) : detail::nfc(raw);
  std::u32string blanks_joined;
  blanks_joined.reserve(text.size());
  bool blank = false;
  for (const char32_t c : text) {
    const bool space = detail::is_white_space(c);
    if (!space) blanks_joined.push_back(c);
    if (space && !blank) blanks_joined.push_back(U' ');
    blank = space;
  }
  return released ? detail::lower_with_final_sigma(blanks_joined) : detail::lower(blanks_joined);
}

IP2P_INLINE void BpeTokenizer::append_words(std::u32string_view text, std::vector<std::int64_t>& ids) const {
  enum class Kind { letter, number, space, other };
  // The released regular expressions skip U+0345, the combining iota below, a mark whose upper case is a letter.
  const char32_t passed_over = text_ == TokenizerText::released ? 0x345 : U' ';
  const auto kind = [passed_over](char32_t c) {
    return c == passed_over            ? Kind::space
           : detail::is_letter(c)      ? Kind::letter
           : detail::is_number(c)      ? Kind::number
           : detail::is_white_space(c) ? Kind::space
                                       : Kind::other;
  };
  for (std::size_t i = 0; i < text.size();) {
    const auto rest = text.substr(i);
    if (const auto special = literal_special(rest)) {
      append_special(text.substr(i, special), ids);
      i += special;
      continue;
    }
    std::size_t size = contraction(rest);
    if (size == 0) {
      const auto first = kind(text[i]);
      size = 1;
      if (first == Kind::letter || first == Kind::other) {
        while (size < rest.size() && kind(rest[size]) == first) ++size;
      }
      if (first == Kind::space) {
        i += size;
        continue;
      }
    }
    append_word(text.substr(i, size), ids);
    i += size;
  }
}

IP2P_INLINE void BpeTokenizer::append_special(std::u32string_view token, std::vector<std::int64_t>& ids) const {
  if (text_ == TokenizerText::released) {
    const auto known = vocabulary_.ids.find(detail::encode_utf8(token));
    if (known == vocabulary_.ids.end()) return append_word(token, ids);
    return ids.push_back(known->second);
  }
  // The reference splits twice: its first expression makes this one word, the second three.
  for (const auto size : {std::size_t{2}, token.size() - 4, std::size_t{2}}) {
    append_word(token.substr(0, size), ids);
    token.remove_prefix(size);
  }
}

IP2P_INLINE bool BpeTokenizer::begins(std::u32string_view text, std::u32string_view start) const {
  const bool long_s = text_ == TokenizerText::released;
  return text.size() >= start.size() && std::equal(start.begin(), start.end(), text.begin(), [&](auto a, auto b) {
           return a == b || (long_s && a == U's' && b == U'\u017F');
         });
}

IP2P_INLINE std::size_t BpeTokenizer::literal_special(std::u32string_view text) const {
  for (const std::u32string_view token : {U"<|startoftext|>", U"<|endoftext|>"}) {
    if (begins(text, token)) return token.size();
  }
  return 0;
}

IP2P_INLINE std::size_t BpeTokenizer::contraction(std::u32string_view text) const {
  if (!text.starts_with(U'\'')) return 0;
  for (const std::u32string_view ending : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"}) {
    if (begins(text, ending)) return ending.size();
  }
  return 0;
}

IP2P_INLINE void BpeTokenizer::append_word(std::u32string_view word, std::vector<std::int64_t>& ids) const {
  const auto bytes = detail::encode_utf8(word);
  std::vector<std::int64_t> tokens(bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    tokens[i] = i + 1 < bytes.size() ? inner_[byte] : last_[byte];
  }
  vocabulary_.pairs.merge(tokens);
  ids.insert(ids.end(), tokens.begin(), tokens.end());
}

}  // namespace ip2p
#endif
