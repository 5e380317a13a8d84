#pragma once

/// \file
/// Architecture of the UNet, as in the published config.json.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/config_keys.hpp"
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
  double norm_eps = 1e-5;             ///< Of the group norms outside the transformers, > 0.
  bool middle = true;                 ///< Whether there is a middle block; distilled networks may lack it.
  bool center_input_sample = false;   ///< The network sees 2 x - 1.
  bool flip_sin_to_cos = true;        ///< The time embedding is [cos, sin] rather than [sin, cos].
  double freq_shift = 0;              ///< Of the time embedding's frequencies, see `timestep_embedding`.

  /// Reads diffusers' config.json (`UNet2DConditionModel`). \param where named in errors
  /// \throws Error for a missing or ill-typed field and for architectures outside SD1.x and SD2.x; see
  ///   docs/reference/config-keys.md
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
  detail::require_class(json, "_class_name", std::array<std::string_view, 1>{"UNet2DConditionModel"}, where);
  detail::require_supported(json, detail::unet_keys, where);
  UNetConfig config;
  detail::need_field(json, "in_channels", config.in_channels, where);
  detail::read_field(json, "out_channels", config.out_channels, where);
  detail::read_field(json, "block_out_channels", config.block_out_channels, where);
  const auto levels = config.block_out_channels.size();
  config.cross_attention.clear();
  std::vector<std::string> down, up;
  detail::need_field(json, "down_block_types", down, where);
  for (const auto& name : down) {
    require(name == "CrossAttnDownBlock2D" || name == "DownBlock2D",
            "{}: down_block_types: expected CrossAttnDownBlock2D or DownBlock2D, found {}", where, name);
    config.cross_attention.push_back(name == "CrossAttnDownBlock2D");
  }
  detail::read_field(json, "up_block_types", up, where);
  for (std::size_t i = 0; i < up.size(); ++i) {
    const bool cross = levels - 1 - i < config.cross_attention.size() && config.cross_attention[levels - 1 - i];
    require(up[i] == (cross ? "CrossAttnUpBlock2D" : "UpBlock2D"),
            "{}: up_block_types[{}]: expected the mirror of down_block_types, found {}", where, i, up[i]);
  }
  if (const auto found = json.find("mid_block_type"); found != json.end()) {
    config.middle = !found->is_null();
    require(!config.middle || *found == "UNetMidBlock2DCrossAttn",
            "{}: mid_block_type: expected UNetMidBlock2DCrossAttn or null, found {}, which is not supported", where,
            detail::json_text(*found));
  }
  detail::read_equal_field(json, "layers_per_block", config.layers_per_block, where);
  config.cross_attention_dim = 0;
  detail::read_equal_field(json, "cross_attention_dim", config.cross_attention_dim, where);
  require(config.cross_attention_dim > 0, "{}: cross_attention_dim: expected at least 1, found {}", where,
          json.contains("cross_attention_dim") ? detail::json_text(json["cross_attention_dim"]) : "none");
  // Published files store the number of heads as `attention_head_dim`, a misnomer that diffusers kept for
  // compatibility.
  const bool named = json.contains("num_attention_heads") && !json.at("num_attention_heads").is_null();
  config.heads = detail::per_resolution(json, named ? "num_attention_heads" : "attention_head_dim", levels, 8, where);
  config.transformer_layers = detail::per_resolution(json, "transformer_layers_per_block", levels, 1, where);
  detail::read_field(json, "use_linear_projection", config.use_linear_projection, where);
  detail::read_field(json, "norm_num_groups", config.norm_num_groups, where);
  detail::read_field(json, "norm_eps", config.norm_eps, where);
  detail::read_field(json, "center_input_sample", config.center_input_sample, where);
  detail::read_field(json, "flip_sin_to_cos", config.flip_sin_to_cos, where);
  detail::read_field(json, "freq_shift", config.freq_shift, where);
  config.validate(where);
  std::int64_t embedding = 0;
  detail::read_field(json, "time_embedding_dim", embedding, where);
  require(embedding == 0 || (embedding % 4 == 0 && embedding / 4 == config.block_out_channels.front()),
          "{}: time_embedding_dim: expected four times block_out_channels[0], found {}, which is not supported", where,
          embedding);
  return config;
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
          {"mid_block_type", middle ? nlohmann::json("UNetMidBlock2DCrossAttn") : nlohmann::json()},
          {"norm_eps", norm_eps},
          {"center_input_sample", center_input_sample},
          {"act_fn", "silu"},
          {"flip_sin_to_cos", flip_sin_to_cos},
          {"freq_shift", freq_shift}};
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
  detail::require_width(in_channels, "in_channels", where);
  detail::require_width(out_channels, "out_channels", where);
  detail::require_width(cross_attention_dim, "cross_attention_dim", where);
  for (const auto channels : block_out_channels) detail::require_width(channels, "block_out_channels", where);
  detail::require_layers(layers_per_block, "layers_per_block", where);
  for (const auto layers : transformer_layers) {
    detail::require_layers(layers, "transformer_layers_per_block", where);
  }
  require(std::isfinite(norm_eps) && norm_eps > 0, "{}: norm_eps: expected a positive number, found {}", where,
          norm_eps);
  const auto half = static_cast<double>(block_out_channels[0] / 2);
  require(std::isfinite(freq_shift) && freq_shift < half, "{}: freq_shift: expected a number below {}, found {}", where,
          half, freq_shift);
  for (std::size_t i = 0; i < levels; ++i) {
    require(heads[i] > 0 && block_out_channels[i] > 0 && block_out_channels[i] % norm_num_groups == 0 &&
                block_out_channels[i] % heads[i] == 0 && block_out_channels[i] % 2 == 0,
            "{}: block_out_channels[{}] = {}: expected an even multiple of norm_num_groups {} and of {} heads", where,
            i, block_out_channels[i], norm_num_groups, heads[i]);
  }
}

}  // namespace ip2p
