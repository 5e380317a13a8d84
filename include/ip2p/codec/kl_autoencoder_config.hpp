#pragma once

/// \file
/// Shape of Stable Diffusion's autoencoder, and its config.json.

#include <array>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/config_keys.hpp"
#include "ip2p/io/json_field.hpp"

namespace ip2p {

/// Shape of a `KlAutoencoder`. The default is that of SD1.x and SD2.x.
struct KlAutoencoderConfig {
  std::int64_t latent_channels = 4;                                  ///< Channels of the latents.
  std::vector<std::int64_t> block_out_channels{128, 256, 512, 512};  ///< Finest resolution first; 2^(n-1) = downscale.
  std::int64_t layers_per_block = 2;  ///< Residual blocks a resolution of the encoder; the decoder has one more.
  std::int64_t norm_num_groups = 32;  ///< Groups of every GroupNorm.
  double scaling_factor = 0.18215;    ///< 1 / standard deviation of the latents.

  /// Reads diffusers' config.json. \param where named in errors  \throws Error naming the key, for missing fields and
  ///   for values of a wrong type, out of range, or not supported (docs/reference/config-keys.md).
  static KlAutoencoderConfig from_json(const nlohmann::json& json, const std::string& where) {
    detail::require_config(json, "an AutoencoderKL", where);
    detail::require_class(json, "_class_name", std::array<std::string_view, 1>{"AutoencoderKL"}, where);
    detail::require_supported(json, detail::autoencoder_keys, where);
    KlAutoencoderConfig config;
    detail::read_field(json, "latent_channels", config.latent_channels, where);
    detail::need_field(json, "block_out_channels", config.block_out_channels, where);
    detail::read_equal_field(json, "layers_per_block", config.layers_per_block, where);
    detail::read_field(json, "norm_num_groups", config.norm_num_groups, where);
    detail::read_field(json, "scaling_factor", config.scaling_factor, where);
    config.validate(where);
    return config;
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
    require(latent_channels > 0 && layers_per_block > 0 && norm_num_groups > 0,
            "{}: expected positive latent_channels, layers_per_block and norm_num_groups, found {}, {} and {}", where,
            latent_channels, layers_per_block, norm_num_groups);
    detail::require_width(latent_channels, "latent_channels", where);
    for (const auto channels : block_out_channels) detail::require_width(channels, "block_out_channels", where);
    detail::require_layers(layers_per_block, "layers_per_block", where);
    require(std::isfinite(scaling_factor) && scaling_factor > 0,
            "{}: scaling_factor: expected a positive number, found {}", where, scaling_factor);
    require(!block_out_channels.empty() && block_out_channels.size() <= 16,
            "{}: block_out_channels: expected 1 to 16 resolutions, found {}", where, block_out_channels.size());
    for (const auto channels : block_out_channels) {
      require(channels > 0 && channels % norm_num_groups == 0,
              "{}: block_out_channels: expected multiples of norm_num_groups {}, found {}", where, norm_num_groups,
              channels);
    }
  }
};

}  // namespace ip2p
