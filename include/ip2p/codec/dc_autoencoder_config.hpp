#pragma once

/// \file
/// Shape of the deep compression autoencoder, and its config.json.

#include <fmt/ranges.h>

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

/// Shape of a `DcAutoencoder`. Lists have an entry for each resolution, finest first; 2^(n-1) = downscale. Where the
/// finest resolution has 0 blocks, that path has no features there: its first (last) convolution halves (doubles) the
/// sides, and the width of the finest resolution is not used.
struct DcAutoencoderConfig {
  std::int64_t latent_channels = 32;                                                     ///< Channels of the latents.
  std::vector<std::int64_t> encoder_block_out_channels{128, 256, 512, 512, 1024, 1024};  ///< Widths of the encoder.
  std::vector<std::int64_t> decoder_block_out_channels{128, 256, 512, 512, 1024, 1024};  ///< Widths of the decoder.
  std::vector<std::int64_t> encoder_layers_per_block{2, 2, 2, 3, 3, 3};                  ///< Blocks of the encoder.
  std::vector<std::int64_t> decoder_layers_per_block{3, 3, 3, 3, 3, 3};                  ///< Blocks of the decoder.
  double scaling_factor = 1.0;  ///< 1 / standard deviation of the latents.

  /// Reads diffusers' config.json; missing fields take their defaults. \param where named in errors  \throws Error
  /// naming the key, for values of a wrong type, out of range, or not supported (docs/reference/config-keys.md).
  static DcAutoencoderConfig from_json(const nlohmann::json& json, const std::string& where) {
    detail::require_config(json, "an AutoencoderDC", where);
    detail::require_class(json, "_class_name", std::array<std::string_view, 1>{"AutoencoderDC"}, where);
    detail::require_supported(json, detail::dc_autoencoder_keys, where);
    DcAutoencoderConfig config;
    detail::read_field(json, "latent_channels", config.latent_channels, where);
    detail::read_field(json, "encoder_block_out_channels", config.encoder_block_out_channels, where);
    detail::read_field(json, "decoder_block_out_channels", config.decoder_block_out_channels, where);
    detail::read_field(json, "encoder_layers_per_block", config.encoder_layers_per_block, where);
    detail::read_field(json, "decoder_layers_per_block", config.decoder_layers_per_block, where);
    detail::read_field(json, "scaling_factor", config.scaling_factor, where);
    config.validate(where);
    return config;
  }

  /// The same fields in diffusers' form; `from_json(to_json())` is the identity.
  [[nodiscard]] nlohmann::json to_json() const {
    // One entry a resolution; no scales, as they belong to blocks with attention.
    const std::vector<std::vector<std::int64_t>> scales(encoder_block_out_channels.size());
    return {{"_class_name", "AutoencoderDC"},
            {"in_channels", 3},
            {"latent_channels", latent_channels},
            {"encoder_block_types", "ResBlock"},
            {"decoder_block_types", "ResBlock"},
            {"encoder_block_out_channels", encoder_block_out_channels},
            {"decoder_block_out_channels", decoder_block_out_channels},
            {"encoder_layers_per_block", encoder_layers_per_block},
            {"decoder_layers_per_block", decoder_layers_per_block},
            {"encoder_qkv_multiscales", scales},
            {"decoder_qkv_multiscales", scales},
            {"upsample_block_type", "pixel_shuffle"},
            {"downsample_block_type", "pixel_unshuffle"},
            {"decoder_norm_types", "rms_norm"},
            {"decoder_act_fns", "silu"},
            {"scaling_factor", scaling_factor}};
  }

  /// \throws Error for widths and counts out of range, unless encoder and decoder have the same number of resolutions,
  ///   2 to 16, and when the channels on both sides of a shortcut do not divide
  void validate(const std::string& where) const {
    detail::require_width(latent_channels, "latent_channels", where);
    require(latent_channels > 0, "{}: latent_channels: expected at least 1, found {}", where, latent_channels);
    require(std::isfinite(scaling_factor) && scaling_factor > 0,
            "{}: scaling_factor: expected a positive number, found {}", where, scaling_factor);
    validate_path("encoder", encoder_block_out_channels, encoder_layers_per_block, where);
    validate_path("decoder", decoder_block_out_channels, decoder_layers_per_block, where);
    require(decoder_block_out_channels.size() == encoder_block_out_channels.size(),
            "{}: decoder_block_out_channels: expected {} resolutions, as many as in encoder_block_out_channels, found "
            "{}",
            where, encoder_block_out_channels.size(), decoder_block_out_channels.size());
  }

 private:
  void validate_path(const std::string& path, const std::vector<std::int64_t>& widths,
                     const std::vector<std::int64_t>& layers, const std::string& where) const {
    require(widths.size() >= 2 && widths.size() <= 16,
            "{}: {}_block_out_channels: expected 2 to 16 resolutions, found {}", where, path, widths.size());
    require(layers.size() == widths.size(), "{}: {}_layers_per_block: expected {} resolutions, found {}", where, path,
            widths.size(), layers.size());
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const auto key = path + "_block_out_channels";
      detail::require_width(widths[i], key.c_str(), where);
      require(widths[i] > 0 && widths[i] % 4 == 0, "{}: {}: expected positive multiples of 4, found {}", where, key,
              widths[i]);
      const std::int64_t least = i == 0 ? 0 : 1;
      require(layers[i] >= least && layers[i] <= 1000, "{}: {}_layers_per_block: expected {} to 1000 at {}, found {}",
              where, path, least, i == 0 ? "the finest resolution" : "a coarser resolution", layers[i]);
      if (i == 0 || (i == 1 && layers[0] == 0)) continue;
      require(4 * widths[i - 1] % widths[i] == 0,
              "{}: {}: expected widths that divide 4 times the one before, found {}", where, key, widths);
    }
    require(widths.back() % latent_channels == 0,
            "{}: {}_block_out_channels: expected a last width that is a multiple of latent_channels {}, found {}",
            where, path, latent_channels, widths.back());
  }
};

}  // namespace ip2p
