#pragma once

/// \file
/// The vocabulary of a CLIP tokenizer, read from the files of published models.

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/text/byte_pair_vocabulary.hpp"
#include "ip2p/text/unicode.hpp"

namespace ip2p::detail {

/// A token that is searched for before the text is split into words.
struct AddedToken {
  std::u32string content;
  std::int64_t id = 0;
  std::int64_t count = 1;   ///< The token stands for this many consecutive ids, starting with `id`.
  bool normalized = false;  ///< Searched for after NFC and lower-casing (true) or in the text as written (false).
};

/// All the data of a tokenizer; filled by `ClipVocabulary::open`.
struct ClipVocabulary : BytePairVocabulary {
  std::vector<AddedToken> added;
  std::int64_t bos = 0, eos = 0, pad = 0, unknown = 0;
  std::int64_t max_length = 77;

  static ClipVocabulary open(const std::filesystem::path& folder);
  static ClipVocabulary open(const std::filesystem::path& vocab, const std::filesystem::path& merges,
                             nlohmann::json config, const nlohmann::json& special_tokens,
                             const nlohmann::json& words = {}, nlohmann::json listed = {});

 private:
  void read_config(const nlohmann::json& config, const nlohmann::json& words, const nlohmann::json& listed,
                   const std::string& where);
};

/// Applies tokenizer_config.json. `words` is the content of added_tokens.json, `listed` the array of added tokens in a
/// tokenizer.json; both may be null or empty. As in transformers 5, added_tokens.json counts unless the configuration
/// has an `added_tokens_decoder`, and its words are searched for in normalised text; words that are only named among
/// the additional special tokens come last, and are searched for in the text as written.
///
/// Whether a special token is searched for in normalised text follows transformers 5: tokens in a list keep the list's
/// flag; if a token has several roles, the last distinct definition in the order bos, eos, unk, pad counts; and a token
/// given as a plain string is searched for in the text as written.
inline void ClipVocabulary::read_config(const nlohmann::json& config, const nlohmann::json& words,
                                        const nlohmann::json& listed, const std::string& where) {
  const auto add = [&](const nlohmann::json& value, const std::string& role, std::int64_t given_id) {
    AddedToken token;
    std::string content;
    if (value.is_string()) {
      content = value.get<std::string>();
    } else {
      require(value.is_object() && value.contains("content") && value["content"].is_string(),
              "{}: {}: expected a string or an object with \"content\", found {}", where, role, json_text(value));
      content = value["content"].get<std::string>();
      token.normalized = value.value("normalized", !value.value("special", true));
      for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
        require(!value.value(flag, false), "{}: {} '{}': expected {} false, as in every CLIP tokenizer, found true",
                where, role, printable(content), flag);
      }
    }
    require(!content.empty(), "{}: {}: expected text, found an empty string", where, role);
    if (given_id >= 0 && !ids.contains(content)) {
      require(given_id == static_cast<std::int64_t>(tokens.size()),
              "{}: {} '{}': expected id {}, the next one of the vocabulary, found {}", where, role, printable(content),
              tokens.size(), given_id);
      tokens.push_back(content);
      ids.emplace(content, given_id);
    }
    token.id = id_of(content, role, where);
    token.content = decode_utf8(content, InvalidUtf8::replace);
    if (token.normalized) token.content = lower(nfc(token.content));
    std::erase_if(added, [&](const AddedToken& other) { return other.id == token.id; });
    added.push_back(token);
    return token.id;
  };

  struct Role {
    const char* name;
    const char* fallback;
    std::int64_t* id;
  };
  const std::array<Role, 4> roles{{{"bos_token", "<|startoftext|>", &bos},
                                   {"eos_token", "<|endoftext|>", &eos},
                                   {"unk_token", "<|endoftext|>", &unknown},
                                   {"pad_token", "<|endoftext|>", &pad}}};

  std::vector<std::int64_t> from_list;
  if (listed.is_array()) {
    for (const auto& value : listed) {
      require(value.is_object() && value.contains("id") && value["id"].is_number_integer(),
              "{}: added_tokens: expected an object with an integer \"id\", found {}", where, json_text(value));
      from_list.push_back(add(value, "added token", value["id"].get<std::int64_t>()));
    }
  }
  using Numbered = std::vector<std::pair<std::int64_t, nlohmann::json>>;
  const auto add_numbered = [&](Numbered by_id) {
    std::sort(by_id.begin(), by_id.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [id, value] : by_id) {
      const bool object = value.is_object() && value.contains("content") && value["content"].is_string();
      const auto known = object ? ids.find(value["content"].get<std::string>()) : ids.end();
      if (known != ids.end() && std::find(from_list.begin(), from_list.end(), known->second) != from_list.end())
        continue;
      from_list.push_back(add(value, "added token", id));
    }
  };
  if (config.contains("added_tokens_decoder")) {
    const auto& decoder = config["added_tokens_decoder"];
    require(decoder.is_object(), "{}: added_tokens_decoder: expected an object, found {}", where, decoder.type_name());
    Numbered by_id;
    for (const auto& [key, value] : decoder.items()) {
      require(!key.empty() && key.size() < 10 && key.find_first_not_of("0123456789") == std::string::npos,
              "{}: added_tokens_decoder: expected an id, found '{}'", where, printable(key));
      by_id.emplace_back(std::stoll(key), value);
    }
    add_numbered(std::move(by_id));
  } else if (words.is_object()) {
    Numbered by_id;
    for (const auto& entry : words.items()) {
      const auto& word = entry.key();  // no structured binding: clang 14 cannot capture one
      const auto& id = entry.value();
      require(id.is_number_integer(), "{}: added_tokens.json: '{}': expected an integer id, found {}", where,
              printable(word), json_text(id));
      const bool special = std::any_of(roles.begin(), roles.end(), [&](const Role& role) {
        const auto value = config.value(role.name, nlohmann::json(role.fallback));
        return (value.is_object() ? value.value("content", nlohmann::json()) : value) == word;
      });
      by_id.emplace_back(id.get<std::int64_t>(), nlohmann::json{{"content", word}, {"special", special}});
    }
    add_numbered(std::move(by_id));
  }

  std::vector<nlohmann::json> seen;
  for (const auto& role : roles) {
    nlohmann::json value =
        config.contains(role.name) && !config[role.name].is_null() ? config[role.name] : nlohmann::json(role.fallback);
    if (value.is_object()) value.erase("__type");
    if (value.is_object()) value.erase("special");
    const auto content = value.is_object()   ? value.value("content", std::string())
                         : value.is_string() ? value.get<std::string>()
                                             : "";
    const auto known = ids.find(content);
    const bool in_list =
        known != ids.end() && std::find(from_list.begin(), from_list.end(), known->second) != from_list.end();
    if (in_list) {
      *role.id = known->second;
    } else if (std::find(seen.begin(), seen.end(), value) != seen.end()) {
      *role.id = id_of(content, role.name, where);
    } else {
      seen.push_back(value);
      *role.id = add(value, role.name, -1);
    }
  }

  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto more = config.find(key);
    if (more == config.end()) continue;
    require(more->is_structured() || more->is_null(), "{}: {}: expected a list of tokens, found {}", where, key,
            more->type_name());
    for (const auto& value : *more) {
      const auto content = value.is_object()   ? value.value("content", std::string())
                           : value.is_string() ? value.get<std::string>()
                                               : "";
      const auto known = ids.find(content);
      const bool added_already = known != ids.end() && std::any_of(added.begin(), added.end(), [&](const auto& token) {
                                   return token.id == known->second;
                                 });
      if (!added_already) add(value, key, static_cast<std::int64_t>(tokens.size()));
    }
  }

  if (config.contains("model_max_length") && config["model_max_length"].is_number()) {
    // transformers writes 1e30 if no length is given.
    const auto length = config["model_max_length"].get<double>();
    require(length >= 2, "{}: model_max_length: expected at least 2, found {}", where, length);
    if (length < 1e6) max_length = static_cast<std::int64_t>(length);
  }
}

inline ClipVocabulary ClipVocabulary::open(const std::filesystem::path& vocab, const std::filesystem::path& merges,
                                           nlohmann::json config, const nlohmann::json& special_tokens,
                                           const nlohmann::json& words, nlohmann::json listed) {
  // Older models define the special tokens in special_tokens_map.json; if it applies, it takes precedence.
  if (!config.contains("added_tokens_decoder") && special_tokens.is_object()) config.update(special_tokens);
  ClipVocabulary out;
  auto where = vocab.parent_path().string();
  const auto tokens = read_json_object(vocab);
  if (vocab.filename() == "tokenizer.json") {
    where = vocab.string();
    require(tokens.contains("model"), "{}: expected \"model\" with \"vocab\" and \"merges\", found none", where);
    const auto& model = tokens["model"];
    out.read_model(model, where);
    const auto suffix = model.value("end_of_word_suffix", nlohmann::json());
    require(suffix == "</w>", "{}: expected a CLIP tokenizer, whose end_of_word_suffix is \"</w>\", found {}", where,
            json_text(suffix));
    listed = tokens.value("added_tokens", nlohmann::json());
  } else {
    out.read_tokens(tokens, vocab.string());
    out.read_merges(merges);
  }
  try {
    out.read_config(config, words, listed, where);
  } catch (const nlohmann::json::exception& error) {
    throw_error("{}: expected the configuration of a CLIP tokenizer, found {}", where, json_fault(error));
  }
  return out;
}

inline ClipVocabulary ClipVocabulary::open(const std::filesystem::path& folder) {
  const auto optional = [&](const char* name) {
    return std::filesystem::exists(folder / name) ? read_json_object(folder / name) : nlohmann::json::object();
  };
  const auto whole = folder / "tokenizer.json";
  const bool only_whole = !std::filesystem::exists(folder / "vocab.json") && std::filesystem::exists(whole);
  return open(only_whole ? whole : folder / "vocab.json", folder / "merges.txt", optional("tokenizer_config.json"),
              only_whole ? nlohmann::json::object() : optional("special_tokens_map.json"),
              optional("added_tokens.json"),
              only_whole ? nlohmann::json() : optional("tokenizer.json").value("added_tokens", nlohmann::json()));
}

}  // namespace ip2p::detail
