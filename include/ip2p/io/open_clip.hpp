#pragma once

/// \file
/// Reads a whole CLIP from an OpenCLIP checkpoint, converted to the names and configuration of transformers' CLIPModel.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/ldm_checkpoint.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

/// The text tower's section of a CLIPModel's config.json, merged with the `text_config_dict` of older files.
inline nlohmann::json clip_text_section(const nlohmann::json& config) {
  auto section = config.value("text_config", nlohmann::json::object());
  if (const auto older = config.find("text_config_dict"); older != config.end() && older->is_object()) {
    section.merge_patch(*older);
  }
  return section;
}

namespace detail {

/// Drops `position_ids`, which older programs store as integers.
inline Weights without_position_ids(Weights stored) {
  std::erase_if(stored, [](const auto& item) { return item.first.ends_with("embeddings.position_ids"); });
  return stored;
}

/// `entry` [R, C] transposed to [C, R]: OpenCLIP multiplies by its projections from the right.
inline WeightEntry transposed(const WeightEntry& entry, const std::string& name) {
  require(entry.shape.size() == 2, "tensor '{}': expected a matrix, found {}", name, shape_text(entry.shape));
  WeightEntry result = entry;
  std::swap(result.shape[0], result.shape[1]);
  result.read = [read = entry.read] { return read().t().contiguous(); };
  return result;
}

/// Channels per head of OpenCLIP's vision towers, by width: 64 except for the largest.
inline std::int64_t open_clip_head_width(std::int64_t width) {
  switch (width) {
    case 1280:  // ViT-H
      return 80;
    case 1408:  // ViT-g
      return 88;
    case 1664:  // ViT-bigG
      return 104;
    default:
      return 64;
  }
}

/// Both towers of an OpenCLIP file that has a vision transformer.
///
/// \param model the `model_cfg` of open_clip_config.json, or an empty object. In the latter case the number of heads is
///   that of the published towers of the same width, and the activation is the exact gelu, OpenCLIP's default (models
///   trained with quick_gelu need an override)
inline ModelComponent open_clip_model(const Weights& all, const nlohmann::json& model, const std::string& where) {
  constexpr std::string_view visual = "visual.";
  Weights text, image;
  for (const auto& [name, entry] : all) {
    if (name.starts_with(visual)) {
      image.emplace(name.substr(visual.size()), entry);
    } else {
      text.emplace(name, entry);
    }
  }
  const auto& projection = ldm_shape(all, "text_projection", 2, where);
  ModelComponent result{.config = {}, .weights = open_clip_tower(text, where), .source = {}};
  auto& weights = result.weights;
  auto text_config = clip_text_config(weights, true, where);
  weights.emplace("text_projection.weight", transposed(all.at("text_projection"), "text_projection"));
  if (const auto scale = all.find("logit_scale"); scale != all.end()) weights.emplace("logit_scale", scale->second);

  const auto width = ldm_shape(image, "class_embedding", 1, where)[0];
  const auto patch = ldm_shape(image, "conv1.weight", 4, where)[2];
  const auto positions = ldm_shape(image, "positional_embedding", 2, where)[0];
  const auto side = static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(positions - 1))));
  require(side * side == positions - 1,
          "{}: 'visual.positional_embedding': expected a square number of rows plus one, found {}", where, positions);
  const auto layers = count_ldm(image, "transformer.resblocks.", ".ln_1.weight");
  require(layers > 0, "{}: lacks the tensor 'visual.transformer.resblocks.0.ln_1.weight'", where);
  const auto intermediate = ldm_shape(image, "transformer.resblocks.0.mlp.c_fc.weight", 2, where)[0];
  const auto move = [&](const std::string& from, const std::string& to) {
    if (auto node = image.extract(from)) weights.emplace("vision_model." + to, node.mapped());
  };
  if (const auto found = image.extract("proj")) {
    weights.emplace("visual_projection.weight", transposed(found.mapped(), "visual.proj"));
  }
  move("class_embedding", "embeddings.class_embedding");
  move("conv1.weight", "embeddings.patch_embedding.weight");
  for (const std::string kind : {"weight", "bias"}) {
    move("ln_pre." + kind, "pre_layrnorm." + kind);  // transformers' spelling
    move("ln_post." + kind, "post_layernorm." + kind);
  }
  constexpr std::string_view tower = "text_model.";
  for (auto& [name, entry] : open_clip_tower(image, where)) {
    weights.emplace(name.starts_with(tower) ? "vision_model." + name.substr(tower.size()) : "visual." + name, entry);
  }

  const auto section = [&](const char* key) {
    const auto found = model.find(key);
    require(found == model.end() || found->is_object(), "{}: open_clip_config.json: {}: expected an object, found {}",
            where, key, found == model.end() ? "" : json_text(*found));
    return found == model.end() ? nlohmann::json::object() : *found;
  };
  const auto config_file = where + ": open_clip_config.json";
  bool quick = false;
  read_field(model, "quick_gelu", quick, config_file);
  const char* activation = quick ? "quick_gelu" : "gelu";
  text_config["hidden_act"] = activation;
  text_config["num_attention_heads"] = section("text_cfg").value("heads", text_config.at("num_attention_heads"));
  // The file does not give the end token; 2 means "the largest id in the text", which is how OpenCLIP finds it.
  text_config["eos_token_id"] = 2;
  result.config =
      config_of(R"({"_class_name": "CLIPModel", "model_type": "clip"})", {{"projection_dim", projection[1]}});
  result.config["text_config"] = std::move(text_config);
  auto vision = config_of("{}", {{"hidden_size", width},
                                 {"intermediate_size", intermediate},
                                 {"num_hidden_layers", layers},
                                 {"image_size", patch * side},
                                 {"patch_size", patch}});
  auto head_width = open_clip_head_width(width);
  read_field(section("vision_cfg"), "head_width", head_width, config_file);
  require(head_width > 0, "{}: head_width: expected at least 1, found {}", config_file, head_width);
  vision["num_attention_heads"] = std::max<std::int64_t>(width / head_width, 1);
  vision["hidden_act"] = activation;
  result.config["vision_config"] = std::move(vision);
  return result;
}

}  // namespace detail
}  // namespace ip2p
