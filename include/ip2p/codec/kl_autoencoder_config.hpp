#pragma once

/// \file
/// Shape of Stable Diffusion's autoencoder, and its config.json.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// Shape of a `KlAutoencoder`. The default is that of SD1.x and SD2.x.
struct KlAutoencoderConfig {
  std::int64_t latent_channels = 4;                                  ///< Channels of the latents.
  std::vector<std::int64_t> block_out_channels{128, 256, 512, 512};  ///< Finest resolution first; 2^(n-1) = downscale.
  std::int64_t layers_per_block = 2;  ///< Residual blocks a resolution of the encoder; the decoder has one more.
  std::int64_t norm_num_groups = 32;  ///< Groups of every GroupNorm.
  double scaling_factor = 0.18215;    ///< 1 / standard deviation of the latents.

  /// Reads diffusers' config.json. \param where named in errors  \throws Error for missing or unknown fields.
  static KlAutoencoderConfig from_json(const nlohmann::json& json, const std::string& where) {
    try {
      KlAutoencoderConfig config;
      config.latent_channels = json.value("latent_channels", config.latent_channels);
      config.block_out_channels = json.at("block_out_channels").get<std::vector<std::int64_t>>();
      config.layers_per_block = json.value("layers_per_block", config.layers_per_block);
      config.norm_num_groups = json.value("norm_num_groups", config.norm_num_groups);
      config.scaling_factor = json.value("scaling_factor", config.scaling_factor);
      require(json.value("use_quant_conv", true) && json.value("use_post_quant_conv", true),
              "{}: use_quant_conv: expected true (SD1.x and SD2.x), found false", where);
      config.validate(where);
      return config;
    } catch (const nlohmann::json::exception& error) {
      throw_error("{}: expected the config.json of an AutoencoderKL, found: {}", where, error.what());
    }
  }

  /// The same fields in diffusers' form; `from_json(to_json())` is the identity.
  [[nodiscard]] nlohmann::json to_json() const {
    const auto n = block_out_channels.size();
    return {{"_class_name", "AutoencoderKL"},
            {"in_channels", 3},
            {"out_channels", 3},
            {"latent_channels", latent_channels},
            {"block_out_channels", block_out_channels},
            {"down_block_types", std::vector<std::string>(n, "DownEncoderBlock2D")},
            {"up_block_types", std::vector<std::string>(n, "UpDecoderBlock2D")},
            {"layers_per_block", layers_per_block},
            {"norm_num_groups", norm_num_groups},
            {"act_fn", "silu"},
            {"scaling_factor", scaling_factor}};
  }

  /// \throws Error when channels cannot be divided into groups or a count is not positive.
  void validate(const std::string& where) const {
    require(latent_channels > 0 && layers_per_block > 0 && norm_num_groups > 0 && scaling_factor > 0 &&
                !block_out_channels.empty(),
            "{}: expected positive channel, layer and group counts and scaling factor", where);
    for (const auto channels : block_out_channels) {
      require(channels > 0 && channels % norm_num_groups == 0,
              "{}: block_out_channels: expected multiples of norm_num_groups {}, found {}", where, norm_num_groups,
              channels);
    }
  }
};

}  // namespace ip2p
