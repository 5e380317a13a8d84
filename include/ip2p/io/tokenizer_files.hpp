#pragma once

/// \file
/// The files of a CLIP tokenizer.

#include <filesystem>
#include <nlohmann/json.hpp>

namespace ip2p {

/// Where a model's CLIP tokenizer is.
struct TokenizerFiles {
  std::filesystem::path vocab;    ///< vocab.json: token -> id; or tokenizer.json, which holds the merges too
  std::filesystem::path merges;   ///< merges.txt, in order of rank
  nlohmann::json config;          ///< tokenizer_config.json, or an empty object
  nlohmann::json special_tokens;  ///< special_tokens_map.json, or an empty object
  nlohmann::json added = {};      ///< added_tokens.json: word -> id, or null
  nlohmann::json listed = {};     ///< "added_tokens" of a tokenizer.json beside vocab.json, or null
};

}  // namespace ip2p
