#pragma once

/// \file
/// Tokens and merges of a byte-pair vocabulary, read from vocab.json and merges.txt or from tokenizer.json.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/text/byte_pairs.hpp"

namespace ip2p::detail {

/// The data of a byte-pair tokenizer. `where` names the file in errors.
struct BytePairVocabulary {
  std::vector<std::string> tokens;                    ///< By id, in the byte alphabet; "" if an id has no token.
  std::unordered_map<std::string, std::int64_t> ids;  ///< The reverse of `tokens`.
  BytePairs pairs;

  void read_tokens(const nlohmann::json& vocab, const std::string& where);
  void add_merge(std::string_view left, std::string_view right, std::int64_t rank, const std::string& where);
  void read_merges(const std::filesystem::path& path);
  void read_model(const nlohmann::json& model, const std::string& where);
  [[nodiscard]] std::int64_t id_of(const std::string& token, std::string_view role, const std::string& where) const;
};

inline std::string tokenizer_text(const std::filesystem::path& path) {
  require(std::filesystem::is_regular_file(path), "{}: expected a tokenizer file, found none", path.string());
  auto text = file_text(path);
  require(text.has_value(), "{}: could not be read", path.string());
  require(!text->starts_with("version https://git-lfs"),
          "{}: expected a tokenizer file, found a git-LFS pointer; fetch the file itself with `git lfs pull`",
          path.string());
  if (text->starts_with("\xEF\xBB\xBF")) text->erase(0, 3);  // a byte order mark, as editors on Windows write it
  return std::move(*text);
}

inline nlohmann::json read_json_object(const std::filesystem::path& path) {
  const auto text = tokenizer_text(path);
  const auto value = json_or_discarded(text);
  require(!value.is_discarded(), "{}: expected JSON, found {} bytes that do not parse", path.string(), text.size());
  require(value.is_object(), "{}: expected a JSON object, found {}", path.string(), value.type_name());
  return value;
}

inline void BytePairVocabulary::read_tokens(const nlohmann::json& vocab, const std::string& where) {
  require(vocab.is_object() && !vocab.empty(), "{}: expected an object of token to id, found {}", where,
          vocab.is_object() ? "an empty one" : vocab.type_name());
  // A model may reserve ids, which leaves gaps, but an id far beyond the number of tokens means a damaged file.
  const auto limit = 2 * static_cast<std::int64_t>(vocab.size()) + 1024;
  for (const auto& [token, value] : vocab.items()) {
    if (!value.is_number_integer()) {
      throw_error("{}: token '{}': expected an integer id, found {}", where, printable(token), value.type_name());
    }
    const auto id = value.get<std::int64_t>();
    if (id < 0 || id >= limit) {
      throw_error("{}: token '{}': expected an id in 0 .. {}, found {}", where, printable(token), limit - 1, id);
    }
    if (static_cast<std::size_t>(id) >= tokens.size()) tokens.resize(static_cast<std::size_t>(id) + 1);
    auto& slot = tokens[static_cast<std::size_t>(id)];
    if (!slot.empty()) {
      throw_error("{}: expected one token for id {}, found '{}' and '{}'", where, id, printable(slot),
                  printable(token));
    }
    slot = token;
    ids.emplace(token, id);
  }
}

inline void BytePairVocabulary::add_merge(std::string_view left, std::string_view right, std::int64_t rank,
                                          const std::string& where) {
  const auto find = [&](const std::string& token) {
    const auto found = ids.find(token);
    if (found == ids.end()) {
      throw_error("{}: merge {} ('{}' + '{}'): expected tokens of the vocabulary, '{}' is not in it", where, rank + 1,
                  printable(left), printable(right), printable(token));
    }
    return found->second;
  };
  const auto l = find(std::string(left)), r = find(std::string(right));
  pairs.add(l, r, {rank, find(std::string(left) + std::string(right))});
}

inline std::int64_t BytePairVocabulary::id_of(const std::string& token, std::string_view role,
                                              const std::string& where) const {
  const auto found = ids.find(token);
  require(found != ids.end(), "{}: {} '{}': expected a token of the vocabulary, but it is not one", where, role,
          printable(token));
  return found->second;
}

/// Adds the merges in merges.txt: one per line, two tokens separated by a space.
inline void BytePairVocabulary::read_merges(const std::filesystem::path& path) {
  const auto text = tokenizer_text(path);
  std::int64_t rank = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    std::string_view line(text.data() + begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    begin = end + 1;
    if (line.empty() || line.starts_with("#version")) continue;
    const auto space = line.find(' ');
    if (!(space != std::string_view::npos && space > 0 && space + 1 < line.size() &&
          line.find(' ', space + 1) == std::string_view::npos)) {
      throw_error("{}: merge {}: expected two tokens with a space between them, found '{}'", path.string(), rank + 1,
                  printable(line));
    }
    add_merge(line.substr(0, space), line.substr(space + 1), rank++, path.string());
  }
  require(rank > 0, "{}: expected a list of merges, found none", path.string());
}

/// Adds the tokens and merges ("a b" or ["a", "b"]) in the "model" section of a tokenizer.json.
inline void BytePairVocabulary::read_model(const nlohmann::json& model, const std::string& where) {
  require(model.is_object() && model.contains("vocab") && model.contains("merges") && model["merges"].is_array(),
          "{}: expected \"model\" with \"vocab\" and \"merges\", found none", where);
  read_tokens(model["vocab"], where);
  std::int64_t rank = 0;
  for (const auto& merge : model["merges"]) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else if (merge.is_string()) {
      const auto line = merge.get<std::string>();
      const auto space = std::min(line.find(' '), line.size());
      left = line.substr(0, space);
      right = line.substr(std::min(space + 1, line.size()));
    }
    if (left.empty() || right.empty()) {
      throw_error("{}: merge {}: expected two tokens, found {}", where, rank + 1, json_text(merge));
    }
    add_merge(left, right, rank++, where);
  }
}

}  // namespace ip2p::detail
