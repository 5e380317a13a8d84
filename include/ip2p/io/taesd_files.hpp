#pragma once

/// \file
/// Reads TAESD, the tiny autoencoder, as its author publishes it: one file each for encoder and decoder, with tensors
/// named by their index in a `torch.nn.Sequential`.

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ldm_keys.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/weight_file.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

/// The weights of both files under the names of diffusers' AutoencoderTiny: `encoder.layers.N` and
/// `decoder.layers.M` with M = N - 1, because there the clamp that is layer 0 of the published decoder is no layer.
/// Throws `Error` if a file cannot be read or holds other names.
inline Weights taesd_weights(const std::filesystem::path& encoder_file, const std::filesystem::path& decoder_file,
                             const SafetensorsOptions& options = {}) {
  Weights weights;
  const auto add = [&](const std::filesystem::path& path, const std::string& side, std::int64_t offset) {
    for (const auto& [name, entry] : open_weight_file(path, options).weights) {
      auto parts = detail::split_key(name);
      const auto layer = detail::key_number(parts[0]);
      require(layer && *layer >= offset && parts.size() > 1,
              "{}: is not a TAESD {}: expected tensor names such as '{}.weight', found '{}'", path.string(), side,
              offset, name);
      parts[0] = std::to_string(*layer - offset);
      weights.emplace(side + ".layers." + detail::join_key(parts, 0), entry);
    }
  };
  add(encoder_file, "encoder", 0);
  add(decoder_file, "decoder", 1);
  return weights;
}

/// AutoencoderTiny's config.json, inferred from the shapes of its weights under diffusers' names. The scaling factor is
/// 1: TAESD's latents are the ones that the denoiser sees. What it infers is checked by
/// `TinyAutoencoderConfig::from_json`. Throws `Error` naming `where` for unexpected names and for fewer than two
/// convolutions on a side.
inline nlohmann::json taesd_config(const Weights& weights, const std::string& where) {
  struct Side {
    std::vector<std::int64_t> blocks, channels;
    std::int64_t first_in = 0, last_out = 0;
  };
  // A convolution starts each resolution; blocks are the layers whose tensors have longer names (`conv.0`).
  const auto read_side = [&](const std::string& side) {
    std::map<std::int64_t, std::string> convolutions;
    std::map<std::int64_t, bool> blocks;
    const auto prefix = side + ".layers.";
    for (const auto& [name, entry] : detail::without_prefix(weights, prefix)) {
      const auto parts = detail::split_key(name);
      const auto layer = detail::key_number(parts[0]);
      require(layer && parts.size() > 1, "{}: expected names such as '{}0.weight', found '{}{}'", where, prefix, prefix,
              name);
      if (parts.size() == 2 && parts[1] == "weight" && entry.shape.size() == 4) convolutions[*layer] = prefix + name;
      if (parts.size() > 2) blocks[*layer] = true;
    }
    require(convolutions.size() >= 2, "{}: expected two or more convolutions under '{}', found {} among {} tensors",
            where, prefix, convolutions.size(), weights.size());
    Side result;
    result.first_in = weights.at(convolutions.begin()->second).shape[1];
    result.last_out = weights.at(convolutions.rbegin()->second).shape[0];
    for (auto convolution = convolutions.begin(); std::next(convolution) != convolutions.end(); ++convolution) {
      const auto next = std::next(convolution)->first;
      std::int64_t count = 0;
      for (const auto& [layer, present] : blocks) count += layer > convolution->first && layer < next ? 1 : 0;
      result.blocks.push_back(count);
      result.channels.push_back(weights.at(convolution->second).shape[0]);
    }
    return result;
  };
  const Side encoder = read_side("encoder");
  const Side decoder = read_side("decoder");
  auto config = detail::config_of(
      R"({"_class_name": "AutoencoderTiny", "act_fn": "relu",
                                      "upsampling_scaling_factor": 2, "latent_magnitude": 3, "latent_shift": 0.5,
                                      "scaling_factor": 1.0})",
      {{"in_channels", encoder.first_in}, {"out_channels", decoder.last_out}, {"latent_channels", encoder.last_out}});
  config["encoder_block_out_channels"] = encoder.channels;
  config["decoder_block_out_channels"] = decoder.channels;
  config["num_encoder_blocks"] = encoder.blocks;
  config["num_decoder_blocks"] = decoder.blocks;
  return config;
}

}  // namespace ip2p
