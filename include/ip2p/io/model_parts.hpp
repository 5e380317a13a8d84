#pragma once

/// \file
/// The parts of a model as they were found on disk.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/io/weights.hpp"

namespace ip2p::detail {

/// One part of a model: diffusers' or transformers' config.json, and weights under their names.
struct ModelComponent {
  nlohmann::json config = nlohmann::json::object();
  Weights weights;
  std::string source;  ///< where the weights come from, in words
};

/// What is the same in every configuration of a kind, as JSON text, and the whole numbers that differ. Text and table
/// compile to much less than an initializer list of JSON values.
inline nlohmann::json config_of(std::string_view constant,
                                std::initializer_list<std::pair<const char*, std::int64_t>> numbers) {
  auto config = nlohmann::json::parse(constant);
  for (const auto& [key, value] : numbers) config[key] = value;
  return config;
}

/// The prediction type of a model whose files do not tell it and cannot be guessed; `scheduler_config_from_json`
/// refuses it with advice.
inline constexpr const char* undetermined_prediction = "undetermined";

/// What `ModelFiles` found in a folder or a file.
struct ModelParts {
  std::string kind;        ///< what it was taken for, in words
  bool open_clip = false;  ///< a text encoder that OpenCLIP trained, which fills up with token 0
  std::map<std::string, ModelComponent, std::less<>> components;  ///< by name
};

}  // namespace ip2p::detail
