#pragma once

/// \file
/// Shape of a CLIP: config.json of transformers' CLIPModel.

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/open_clip.hpp"
#include "ip2p/text/clip_text_model.hpp"

namespace ip2p {

/// Shape of the image tower. The default is OpenAI's ViT-L/14.
struct ClipVisionConfig {
  std::int64_t hidden_size = 1024;        ///< Width of the hidden states.
  std::int64_t intermediate_size = 4096;  ///< Width of the feed-forward layers.
  std::int64_t num_hidden_layers = 24;    ///< Transformer layers.
  std::int64_t num_attention_heads = 16;  ///< Attention heads; divides `hidden_size`.
  std::int64_t image_size = 224;          ///< Side of the square input in pixels.
  std::int64_t patch_size = 14;           ///< Side of a patch in pixels; divides `image_size`.
  std::string hidden_act = "quick_gelu";  ///< "quick_gelu" (OpenAI) or "gelu" (OpenCLIP).

  /// Tokens of a picture: its patches and the class token.
  [[nodiscard]] std::int64_t tokens() const { return (image_size / patch_size) * (image_size / patch_size) + 1; }

  /// \throws Error for sizes that are not positive or not divisible, and for an unknown activation
  void validate(const std::string& where) const {
    require(hidden_size > 0 && intermediate_size > 0 && num_hidden_layers > 0 && num_attention_heads > 0 &&
                hidden_size % num_attention_heads == 0,
            "{}: expected positive sizes and hidden_size {} to be a multiple of num_attention_heads {}", where,
            hidden_size, num_attention_heads);
    detail::require_layers(num_hidden_layers, "num_hidden_layers", where);
    require(patch_size > 0 && image_size >= patch_size && image_size % patch_size == 0,
            "{}: image_size: expected a multiple of patch_size {}, found {}", where, patch_size, image_size);
    require(hidden_act == "quick_gelu" || hidden_act == "gelu", "{}: hidden_act: expected quick_gelu or gelu, found {}",
            where, hidden_act);
  }
};

/// Shape of a `ClipModel`. The default is OpenAI's ViT-L/14.
struct ClipConfig {
  ClipTextConfig text{};              ///< The text tower.
  ClipVisionConfig vision{};          ///< The image tower.
  std::int64_t projection_dim = 768;  ///< Width of the space that pictures and texts share.
  /// The token whose state represents the text, at its first occurrence; 2 selects the position of the largest id
  /// instead, as in files written before transformers fixed the number.
  std::int64_t eos_token_id = 49407;

  /// Reads transformers' config.json; missing fields take transformers' defaults (those of ViT-B/32).
  /// \param where named in errors  \throws Error for missing or unknown values
  static ClipConfig from_json(const nlohmann::json& json, const std::string& where) {
    detail::require_config(json, "a CLIPModel", where);
    try {
      nlohmann::json text{{"hidden_size", 512},
                          {"intermediate_size", 2048},
                          {"num_hidden_layers", 12},
                          {"num_attention_heads", 8},
                          {"eos_token_id", 49407}};
      text.merge_patch(clip_text_section(json));
      auto vision = json.value("vision_config", nlohmann::json::object());
      if (const auto older = json.find("vision_config_dict"); older != json.end() && older->is_object()) {
        vision.merge_patch(*older);
      }
      ClipConfig config;
      config.text = ClipTextConfig::from_json(text, where + ", text_config");
      config.vision = {.hidden_size = 768,
                       .intermediate_size = 3072,
                       .num_hidden_layers = 12,
                       .num_attention_heads = 12,
                       .image_size = 224,
                       .patch_size = 32,
                       .hidden_act = "quick_gelu"};
      const auto read = [&](const char* key, auto& value) {
        detail::read_field(vision, key, value, where + ", vision_config");
      };
      read("hidden_size", config.vision.hidden_size);
      read("intermediate_size", config.vision.intermediate_size);
      read("num_hidden_layers", config.vision.num_hidden_layers);
      read("num_attention_heads", config.vision.num_attention_heads);
      read("image_size", config.vision.image_size);
      read("patch_size", config.vision.patch_size);
      read("hidden_act", config.vision.hidden_act);
      for (const auto& [tower, section] : {std::pair{"text_config", text}, std::pair{"vision_config", vision}}) {
        const double eps = section.value("layer_norm_eps", 1e-5);
        require(eps == 1e-5, "{}: {}: layer_norm_eps: expected 1e-5, found {:g}", where, tower, eps);
      }
      config.projection_dim = 512;
      detail::read_field(json, "projection_dim", config.projection_dim, where);
      detail::read_field(text, "eos_token_id", config.eos_token_id, where + ", text_config");
      config.validate(where);
      return config;
    } catch (const nlohmann::json::exception& error) {
      throw_error("{}: expected the config.json of a CLIPModel, found {}", where, detail::json_fault(error));
    }
  }

  /// The same fields in transformers' form; `from_json(to_json())` is the identity.
  [[nodiscard]] nlohmann::json to_json() const {
    auto text_json = text.to_json();
    text_json["eos_token_id"] = eos_token_id;
    text_json["projection_dim"] = projection_dim;
    return {{"architectures", {"CLIPModel"}},
            {"model_type", "clip"},
            {"projection_dim", projection_dim},
            {"logit_scale_init_value", std::log(1.0 / 0.07)},
            {"text_config", text_json},
            {"vision_config",
             {{"model_type", "clip_vision_model"},
              {"hidden_size", vision.hidden_size},
              {"intermediate_size", vision.intermediate_size},
              {"num_hidden_layers", vision.num_hidden_layers},
              {"num_attention_heads", vision.num_attention_heads},
              {"image_size", vision.image_size},
              {"patch_size", vision.patch_size},
              {"hidden_act", vision.hidden_act},
              {"projection_dim", projection_dim},
              {"layer_norm_eps", 1e-5}}}};
  }

  /// \throws Error when a tower's shape is invalid or `projection_dim` is not positive
  void validate(const std::string& where) const {
    text.validate(where + ", text_config");
    vision.validate(where + ", vision_config");
    require(projection_dim > 0, "{}: projection_dim: expected a positive width, found {}", where, projection_dim);
  }
};

}  // namespace ip2p
