#pragma once

/// \file
/// CLIP's text transformer (transformers `CLIPTextModel`), which maps token ids to a sequence of vectors.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/io/config_keys.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/nn/clip_layer.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/nn/token_ids.hpp"

namespace ip2p {

/// Shape of a `ClipTextModel`. The default is OpenAI's ViT-L/14 text tower (SD1.x).
struct ClipTextConfig {
  std::int64_t vocab_size = 49408;            ///< Tokens of the vocabulary.
  std::int64_t hidden_size = 768;             ///< Width of the hidden states and of the result.
  std::int64_t intermediate_size = 3072;      ///< Width of the feed-forward layers.
  std::int64_t num_hidden_layers = 12;        ///< Transformer layers.
  std::int64_t num_attention_heads = 12;      ///< Attention heads; divides `hidden_size`.
  std::int64_t max_position_embeddings = 77;  ///< Longest text in tokens, with BOS and EOS.
  std::string hidden_act = "quick_gelu";      ///< "quick_gelu" (OpenAI) or "gelu" (OpenCLIP, SD2.x).
  double layer_norm_eps = 1e-5;               ///< Of every layer norm, > 0.

  /// Reads transformers' config.json. \param where named in errors  \throws Error naming the key, for missing fields
  ///   and for values of a wrong type or out of range.
  static ClipTextConfig from_json(const nlohmann::json& json, const std::string& where) {
    detail::require_config(json, "a CLIPTextModel", where);
    detail::require_class(json, "model_type", std::array<std::string_view, 2>{"clip_text_model", "clip"}, where);
    ClipTextConfig config;
    detail::read_field(json, "vocab_size", config.vocab_size, where);
    detail::need_field(json, "hidden_size", config.hidden_size, where);
    config.intermediate_size = 4 * config.hidden_size;
    detail::read_field(json, "intermediate_size", config.intermediate_size, where);
    detail::need_field(json, "num_hidden_layers", config.num_hidden_layers, where);
    detail::need_field(json, "num_attention_heads", config.num_attention_heads, where);
    detail::read_field(json, "max_position_embeddings", config.max_position_embeddings, where);
    detail::read_field(json, "hidden_act", config.hidden_act, where);
    detail::read_field(json, "layer_norm_eps", config.layer_norm_eps, where);
    config.validate(where);
    return config;
  }

  /// The configuration in transformers' form; `from_json(to_json())` is the identity.
  [[nodiscard]] nlohmann::json to_json() const {
    return {{"architectures", {"CLIPTextModel"}},
            {"model_type", "clip_text_model"},
            {"vocab_size", vocab_size},
            {"hidden_size", hidden_size},
            {"intermediate_size", intermediate_size},
            {"num_hidden_layers", num_hidden_layers},
            {"num_attention_heads", num_attention_heads},
            {"max_position_embeddings", max_position_embeddings},
            {"hidden_act", hidden_act},
            {"layer_norm_eps", layer_norm_eps},
            {"bos_token_id", vocab_size - 2},
            {"eos_token_id", vocab_size - 1}};
  }

  /// \throws Error for sizes that are not positive, a width not divisible by the heads, and unknown activations.
  void validate(const std::string& where) const {
    for (const auto& [key, size] :
         {std::pair{"vocab_size", vocab_size}, std::pair{"hidden_size", hidden_size},
          std::pair{"intermediate_size", intermediate_size}, std::pair{"num_hidden_layers", num_hidden_layers},
          std::pair{"num_attention_heads", num_attention_heads},
          std::pair{"max_position_embeddings", max_position_embeddings}}) {
      require(size > 0, "{}: {}: expected at least 1, found {}", where, key, size);
    }
    detail::require_width(vocab_size, "vocab_size", where);
    detail::require_width(hidden_size, "hidden_size", where);
    detail::require_width(intermediate_size, "intermediate_size", where);
    detail::require_width(max_position_embeddings, "max_position_embeddings", where);
    detail::require_layers(num_hidden_layers, "num_hidden_layers", where);
    require(hidden_size % num_attention_heads == 0,
            "{}: hidden_size: expected a multiple of num_attention_heads {}, found {}", where, num_attention_heads,
            hidden_size);
    require(hidden_act == "quick_gelu" || hidden_act == "gelu", "{}: hidden_act: expected quick_gelu or gelu, found {}",
            where, hidden_act);
    require(std::isfinite(layer_norm_eps) && layer_norm_eps > 0,
            "{}: layer_norm_eps: expected a positive number, found {}", where, layer_norm_eps);
  }
};

namespace detail {

struct ClipTextModule : Module {
  explicit ClipTextModule(ClipTextConfig config_) : config(std::move(config_)) {
    config.validate("ClipTextConfig");
    auto model = register_group("text_model");
    auto embeddings = model->register_group("embeddings");
    token_embedding = embeddings->register_module("token_embedding",
                                                  std::make_shared<Embedding>(config.vocab_size, config.hidden_size));
    position_embedding = embeddings->register_module(
        "position_embedding", std::make_shared<Embedding>(config.max_position_embeddings, config.hidden_size));
    auto list = model->register_group("encoder")->register_group("layers");
    for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
      layers.push_back(list->register_module(
          std::to_string(i),
          std::make_shared<ClipLayer>(config.hidden_size, config.intermediate_size, config.num_attention_heads,
                                      config.hidden_act == "quick_gelu", /*causal=*/true, config.layer_norm_eps)));
    }
    final_layer_norm = model->register_module("final_layer_norm",
                                              std::make_shared<LayerNorm>(config.hidden_size, config.layer_norm_eps));
  }

  ClipTextConfig config;
  std::shared_ptr<Embedding> token_embedding, position_embedding;
  std::vector<std::shared_ptr<ClipLayer>> layers;
  std::shared_ptr<LayerNorm> final_layer_norm;
  std::int64_t added_end = 0;  ///< One past the last id added by `ClipTextModel::add_rows`.
};

}  // namespace detail

/// The text tower of CLIP up to its last hidden state, as Stable Diffusion uses it.
class ClipTextModel : public ModelHandle<detail::ClipTextModule> {
 public:
  /// What `load` reads from the model's config.json.
  using Config = ClipTextConfig;
  static constexpr const char* component = "text_encoder";  ///< Name of its folder in a model.

  /// Weights are uninitialised: load them or call `initialise()`.
  explicit ClipTextModel(ClipTextConfig config)
      : ModelHandle(std::make_shared<detail::ClipTextModule>(std::move(config))) {}

  /// The shape that it was made with.
  [[nodiscard]] const ClipTextConfig& config() const { return module_->config; }

  /// \param ids [B, T] int64 on the CPU, T <= 77, each in [0, vocab_size)
  /// \return last hidden state after the final layer norm, [B, T, hidden_size]
  /// \throws Error for another shape, dtype or device, and for ids out of range
  at::Tensor operator()(const at::Tensor& ids) const {
    detail::require_token_ids(ids, config().max_position_embeddings, config().vocab_size, "ClipTextModel");
    const auto placed = detail::to_device(ids, device());
    auto x = ((*module_->token_embedding)(placed) +
              (*module_->position_embedding)(at::arange(ids.size(1), placed.options())))
                 .to(dtype());
    for (const auto& layer : module_->layers) x = (*layer)(x);
    return (*module_->final_layer_norm)(x);
  }

  /// Assigns embedding vectors to the tokens first, first + 1, ..., growing the table if necessary. The table is
  /// copied. \param vectors [n, hidden_size]; converted to the table's dtype \throws Error for another width, and for
  /// tokens that already got vectors in an earlier call
  void add_rows(std::int64_t first, const at::Tensor& vectors) {
    const at::NoGradGuard no_grad;
    require(vectors.defined() && vectors.dim() == 2 && vectors.size(0) > 0 && vectors.size(1) == config().hidden_size,
            "ClipTextModel: vectors: expected [n, {}], found {}", config().hidden_size, tensor_text(vectors));
    require(
        first >= module_->added_end && first <= config().vocab_size,
        "ClipTextModel: tokens: expected them to begin at {} to {}, found {}: another text encoder that shares this "
        "model has added some",
        module_->added_end, config().vocab_size, first);
    const auto end = first + vectors.size(0);
    auto table = module_->token_embedding->weight;
    std::vector<at::Tensor> rows{table.detach().narrow(0, 0, first), vectors.to(table.options())};
    if (end < config().vocab_size) rows.push_back(table.detach().narrow(0, end, config().vocab_size - end));
    table.set_data(at::cat(rows, 0));
    module_->config.vocab_size = table.size(0);
    module_->added_end = end;
  }
};

}  // namespace ip2p
