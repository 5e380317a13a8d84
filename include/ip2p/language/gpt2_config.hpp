#pragma once

/// \file
/// Shape of a GPT-2 model, as in transformers' config.json.

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// Shape of a `Gpt2`. The default is the smallest published one (124 M parameters).
struct Gpt2Config {
  std::int64_t vocab_size = 50257;  ///< Tokens of the vocabulary.
  std::int64_t n_positions = 1024;  ///< Longest text in tokens.
  std::int64_t n_embd = 768;        ///< Width of the hidden states.
  std::int64_t n_layer = 12;        ///< Transformer layers.
  std::int64_t n_head = 12;         ///< Attention heads; divides `n_embd`.
  std::int64_t n_inner = 0;         ///< Width of the feed-forward layer; 0: 4 n_embd.
  std::string activation_function =
      "gelu_new";  ///< "gelu_new" (tanh approximation), "gelu_pytorch_tanh" (the same) or "gelu" (exact).

  /// Width of the feed-forward layer.
  [[nodiscard]] std::int64_t inner() const { return n_inner > 0 ? n_inner : 4 * n_embd; }

  /// Reads transformers' config.json. \param where named in errors  \throws Error for missing values, and for
  /// unsupported variants of the architecture
  static Gpt2Config from_json(const nlohmann::json& json, const std::string& where) {
    try {
      const auto type = json.value("model_type", "gpt2");
      require(type == "gpt2", "{}: model_type: expected gpt2, found {}", where, type);
      const std::array<std::pair<const char*, bool>, 5> fixed{{{"scale_attn_weights", true},
                                                               {"scale_attn_by_inverse_layer_idx", false},
                                                               {"reorder_and_upcast_attn", false},
                                                               {"add_cross_attention", false},
                                                               {"tie_word_embeddings", true}}};
      for (const auto& [key, expected] : fixed) {
        const bool found = json.value(key, expected);
        require(found == expected, "{}: {}: expected {}, found {}, which is not supported", where, key, expected,
                found);
      }
      const auto epsilon = json.value("layer_norm_epsilon", 1e-5);
      require(epsilon == 1e-5, "{}: layer_norm_epsilon: expected 1e-05, found {}", where, epsilon);
      Gpt2Config config;
      config.vocab_size = json.at("vocab_size").get<std::int64_t>();
      config.n_positions = json.value("n_positions", config.n_positions);
      config.n_embd = json.at("n_embd").get<std::int64_t>();
      config.n_layer = json.at("n_layer").get<std::int64_t>();
      config.n_head = json.at("n_head").get<std::int64_t>();
      if (json.contains("n_inner") && !json["n_inner"].is_null()) config.n_inner = json["n_inner"].get<std::int64_t>();
      config.activation_function = json.value("activation_function", config.activation_function);
      config.validate(where);
      return config;
    } catch (const nlohmann::json::exception& error) {
      throw_error("{}: expected the config.json of a GPT2LMHeadModel, found: {}", where, error.what());
    }
  }

  /// The same fields in transformers' form; `from_json(to_json())` is the identity.
  [[nodiscard]] nlohmann::json to_json() const {
    return {{"architectures", {"GPT2LMHeadModel"}},
            {"model_type", "gpt2"},
            {"vocab_size", vocab_size},
            {"n_positions", n_positions},
            {"n_ctx", n_positions},
            {"n_embd", n_embd},
            {"n_layer", n_layer},
            {"n_head", n_head},
            {"n_inner", n_inner > 0 ? nlohmann::json(n_inner) : nlohmann::json()},
            {"activation_function", activation_function},
            {"layer_norm_epsilon", 1e-5},
            {"tie_word_embeddings", true}};
  }

  /// \throws Error for counts that are not positive or not divisible, and for an unknown activation.
  void validate(const std::string& where) const {
    require(vocab_size > 0 && n_positions > 0 && n_embd > 0 && n_layer > 0 && n_head > 0 && n_inner >= 0 &&
                n_embd % n_head == 0,
            "{}: expected positive sizes and n_embd {} to be a multiple of n_head {}", where, n_embd, n_head);
    require(activation_function == "gelu_new" || activation_function == "gelu_pytorch_tanh" ||
                activation_function == "gelu",
            "{}: activation_function: expected gelu_new, gelu_pytorch_tanh or gelu, found {}", where,
            activation_function);
  }
};

}  // namespace ip2p
