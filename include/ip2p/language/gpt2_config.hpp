#pragma once

/// \file
/// Shape of a GPT-2 model, as in transformers' config.json.

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_field.hpp"

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

  /// Reads transformers' config.json. \param where named in errors  \throws Error naming the key, for missing fields,
  ///   values of a wrong type or out of range, and unsupported variants of the architecture
  static Gpt2Config from_json(const nlohmann::json& json, const std::string& where) {
    detail::require_config(json, "a GPT2LMHeadModel", where);
    detail::require_field(json, "model_type", std::string("gpt2"), where);
    const std::array<std::pair<const char*, bool>, 5> fixed{{{"scale_attn_weights", true},
                                                             {"scale_attn_by_inverse_layer_idx", false},
                                                             {"reorder_and_upcast_attn", false},
                                                             {"add_cross_attention", false},
                                                             {"tie_word_embeddings", true}}};
    for (const auto& [key, expected] : fixed) detail::require_field(json, key, expected, where);
    detail::require_field(json, "layer_norm_epsilon", 1e-5, where);
    Gpt2Config config;
    detail::need_field(json, "vocab_size", config.vocab_size, where);
    detail::read_field(json, "n_positions", config.n_positions, where);
    detail::need_field(json, "n_embd", config.n_embd, where);
    detail::need_field(json, "n_layer", config.n_layer, where);
    detail::need_field(json, "n_head", config.n_head, where);
    detail::read_field(json, "n_inner", config.n_inner, where);
    detail::read_field(json, "activation_function", config.activation_function, where);
    config.validate(where);
    return config;
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
    for (const auto& [key, size] : {std::pair{"vocab_size", vocab_size}, std::pair{"n_positions", n_positions},
                                    std::pair{"n_embd", n_embd}, std::pair{"n_inner", n_inner}}) {
      detail::require_width(size, key, where);
    }
    detail::require_layers(n_layer, "n_layer", where);
    require(activation_function == "gelu_new" || activation_function == "gelu_pytorch_tanh" ||
                activation_function == "gelu",
            "{}: activation_function: expected gelu_new, gelu_pytorch_tanh or gelu, found {}", where,
            activation_function);
  }
};

}  // namespace ip2p
