#pragma once

/// \file
/// Architecture of the UNet, as in the published config.json.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/json_field.hpp"

namespace ip2p {

/// Shape of a `UNet`. The default is Stable Diffusion 1.5 with the eight input channels of InstructPix2Pix.
struct UNetConfig {
  std::int64_t in_channels = 8;   ///< 4 text-to-image, 8 InstructPix2Pix, 9 inpainting.
  std::int64_t out_channels = 4;  ///< Latent channels of the prediction.
  std::vector<std::int64_t> block_out_channels{320, 640, 1280, 1280};  ///< One per resolution, finest first.
  std::vector<bool> cross_attention{true, true, true, false};  ///< Which resolutions have transformers (down path).
  std::int64_t layers_per_block = 2;            ///< Residual blocks per resolution; one more on the up path.
  std::int64_t cross_attention_dim = 768;       ///< Width of the text context.
  std::vector<std::int64_t> heads{8, 8, 8, 8};  ///< Attention heads per resolution.
  std::vector<std::int64_t> transformer_layers{1, 1, 1, 1};  ///< Transformer layers per resolution.
  bool use_linear_projection = false;                        ///< SD2 stores proj_in/out as linear layers.
  std::int64_t norm_num_groups = 32;  ///< Groups of every group norm; divides all channel counts.

  /// Reads diffusers' config.json (`UNet2DConditionModel`). \param where named in errors
  /// \throws Error for a missing or ill-typed field and for architectures outside SD1.x and SD2.x.
  static UNetConfig from_json(const nlohmann::json& json, const std::string& where);

  /// The same fields in diffusers' form; `from_json(to_json())` is the identity.
  [[nodiscard]] nlohmann::json to_json() const;

  /// \throws Error when list lengths differ or channels do not divide into groups and heads.
  void validate(const std::string& where) const;
};

namespace detail {

/// One value per resolution, read from a list or from a single value that applies to all.
inline std::vector<std::int64_t> per_resolution(const nlohmann::json& json, const char* key, std::size_t count,
                                                std::int64_t otherwise, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return std::vector<std::int64_t>(count, otherwise);
  std::vector<std::int64_t> values;
  if (found->is_array()) {
    read_field(json, key, values, where);
    return values;
  }
  std::int64_t value = 0;
  read_field(json, key, value, where);
  return std::vector<std::int64_t>(count, value);
}

}  // namespace detail

inline UNetConfig UNetConfig::from_json(const nlohmann::json& json, const std::string& where) {
  detail::require_config(json, "a UNet2DConditionModel", where);
  try {
    UNetConfig config;
    detail::need_field(json, "in_channels", config.in_channels, where);
    detail::read_field(json, "out_channels", config.out_channels, where);
    detail::read_field(json, "block_out_channels", config.block_out_channels, where);
    const auto levels = config.block_out_channels.size();
    config.cross_attention.clear();
    require(json.contains("down_block_types"), "{}: down_block_types: expected a list, found none", where);
    for (const auto& type : json.at("down_block_types")) {
      const auto name = type.get<std::string>();
      require(name == "CrossAttnDownBlock2D" || name == "DownBlock2D",
              "{}: down_block_types: expected CrossAttnDownBlock2D or DownBlock2D, found {}", where, name);
      config.cross_attention.push_back(name == "CrossAttnDownBlock2D");
    }
    if (const auto up = json.find("up_block_types"); up != json.end()) {
      for (std::size_t i = 0; i < up->size(); ++i) {
        const auto name = up->at(i).get<std::string>();
        const bool cross = levels - 1 - i < config.cross_attention.size() && config.cross_attention[levels - 1 - i];
        require(name == (cross ? "CrossAttnUpBlock2D" : "UpBlock2D"),
                "{}: up_block_types[{}]: expected the mirror of down_block_types, found {}", where, i, name);
      }
    }
    detail::read_field(json, "layers_per_block", config.layers_per_block, where);
    detail::need_field(json, "cross_attention_dim", config.cross_attention_dim, where);
    // Published files store the number of heads as `attention_head_dim`, a misnomer that diffusers kept for
    // compatibility.
    const bool named = json.contains("num_attention_heads") && !json.at("num_attention_heads").is_null();
    config.heads = detail::per_resolution(json, named ? "num_attention_heads" : "attention_head_dim", levels, 8, where);
    config.transformer_layers = detail::per_resolution(json, "transformer_layers_per_block", levels, 1, where);
    detail::read_field(json, "use_linear_projection", config.use_linear_projection, where);
    detail::read_field(json, "norm_num_groups", config.norm_num_groups, where);
    for (const auto* key : {"addition_embed_type", "class_embed_type", "encoder_hid_dim", "time_cond_proj_dim"}) {
      const auto found = json.find(key);
      require(found == json.end() || found->is_null(), "{}: {}: expected none (SD1.x or SD2.x), found {}", where, key,
              found == json.end() ? std::string() : found->dump());
    }
    config.validate(where);
    return config;
  } catch (const nlohmann::json::exception& error) {
    throw_error("{}: expected the config.json of a UNet2DConditionModel, found: {}", where, error.what());
  }
}

inline nlohmann::json UNetConfig::to_json() const {
  nlohmann::json down = nlohmann::json::array();
  nlohmann::json up = nlohmann::json::array();
  for (std::size_t i = 0; i < cross_attention.size(); ++i) {
    down.push_back(cross_attention[i] ? "CrossAttnDownBlock2D" : "DownBlock2D");
    up.push_back(cross_attention[cross_attention.size() - 1 - i] ? "CrossAttnUpBlock2D" : "UpBlock2D");
  }
  return {{"_class_name", "UNet2DConditionModel"},
          {"in_channels", in_channels},
          {"out_channels", out_channels},
          {"block_out_channels", block_out_channels},
          {"down_block_types", down},
          {"up_block_types", up},
          {"layers_per_block", layers_per_block},
          {"cross_attention_dim", cross_attention_dim},
          {"attention_head_dim", heads},
          {"transformer_layers_per_block", transformer_layers},
          {"use_linear_projection", use_linear_projection},
          {"norm_num_groups", norm_num_groups},
          {"act_fn", "silu"},
          {"flip_sin_to_cos", true},
          {"freq_shift", 0}};
}

inline void UNetConfig::validate(const std::string& where) const {
  const auto levels = block_out_channels.size();
  require(
      levels > 0 && cross_attention.size() == levels && heads.size() == levels && transformer_layers.size() == levels,
      "{}: expected one block type, head count and depth for each of the {} block_out_channels, found {}, {}, {}",
      where, levels, cross_attention.size(), heads.size(), transformer_layers.size());
  require(in_channels > 0 && out_channels > 0 && layers_per_block > 0 && cross_attention_dim > 0 && norm_num_groups > 0,
          "{}: expected positive in_channels, out_channels, layers_per_block, cross_attention_dim and norm_num_groups, "
          "found "
          "{}, {}, {}, {} and {}",
          where, in_channels, out_channels, layers_per_block, cross_attention_dim, norm_num_groups);
  for (std::size_t i = 0; i < levels; ++i) {
    require(heads[i] > 0 && block_out_channels[i] > 0 && block_out_channels[i] % norm_num_groups == 0 &&
                block_out_channels[i] % heads[i] == 0 && block_out_channels[i] % 2 == 0,
            "{}: block_out_channels[{}] = {}: expected an even multiple of norm_num_groups {} and of {} heads", where,
            i, block_out_channels[i], norm_num_groups, heads[i]);
  }
}

}  // namespace ip2p
