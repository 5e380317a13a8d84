#pragma once

/// \file
/// Maps diffusers' tensor names to those of single-file latent-diffusion checkpoints: the inverse of io/ldm_keys.hpp.
/// Names are given and returned without their component's prefix.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ldm_keys.hpp"

namespace ip2p::detail {

/// Replaces a leading diffusers name by its latent-diffusion counterpart, using the first pair that matches; false if
/// none does.
inline bool replace_start_inversely(std::string& name, std::span<const KeyPair> pairs) {
  for (const auto& [ldm, diffusers] : pairs) {
    if (replace_start(name, diffusers, ldm)) return true;
  }
  return false;
}

/// The latent-diffusion name of the UNet tensor that diffusers calls `name`.
/// \param layers_per_block residual blocks per resolution on the way down
/// \param levels number of resolutions  \param attends whether resolution i, finest first, has transformers
/// \throws Error if diffusers' UNet has no tensor of that name
template <class Attends>
std::string unet_ldm_key(const std::string& name, std::int64_t layers_per_block, std::int64_t levels,
                         const Attends& attends) {
  std::string result = name;
  if (replace_start_inversely(result, ldm_whole)) return result;
  const auto parts = split_key(name);
  const auto number = [&](std::size_t i) { return i < parts.size() ? key_number(parts[i]).value_or(-1) : -1; };
  const auto residual = [&](std::size_t first) {
    std::string rest = join_key(parts, first);
    require(replace_start_inversely(rest, ldm_residual), "'{}': has no name in a single-file checkpoint", name);
    return rest;
  };
  if (parts[0] == "mid_block" && parts.size() > 3) {
    if (parts[1] == "attentions" && number(2) == 0) return "middle_block.1." + join_key(parts, 3);
    if (parts[1] == "resnets" && number(2) >= 0) return fmt::format("middle_block.{}.{}", 2 * number(2), residual(3));
  }
  const bool down = parts[0] == "down_blocks";
  const auto block = number(1), layer = number(3);
  require((down || parts[0] == "up_blocks") && block >= 0 && block < levels && layer >= 0 && parts.size() > 4,
          "'{}': has no name in a single-file checkpoint", name);
  const auto first = block * (layers_per_block + 1) + (down ? 1 : 0);
  const auto place = fmt::format("{}_blocks.{}.", down ? "input" : "output", first + layer);
  if (parts[2] == "resnets") return place + "0." + residual(4);
  if (parts[2] == "attentions") return place + "1." + join_key(parts, 4);
  // A downsampler has its own index; an upsampler shares the index of the last residual block and comes after it.
  const auto last = first + layers_per_block;
  if (parts[2] == "downsamplers") return fmt::format("input_blocks.{}.0.op.{}", last, join_key(parts, 5));
  require(parts[2] == "upsamplers", "'{}': has no name in a single-file checkpoint", name);
  const bool after_attention = attends[static_cast<std::size_t>(levels - 1 - block)];
  return fmt::format("output_blocks.{}.{}.conv.{}", last, after_attention ? 2 : 1, join_key(parts, 5));
}

/// The latent-diffusion name of the autoencoder tensor that diffusers calls `name`.
/// \param levels number of resolutions; the decoder counts them from the other end
/// \throws Error if AutoencoderKL has no tensor of that name
inline std::string vae_ldm_key(const std::string& name, std::int64_t levels) {
  auto parts = split_key(name);
  if (parts[0] != "encoder" && parts[0] != "decoder") return name;
  const std::string side = parts[0] + ".";
  if (parts.size() > 1 && parts[1] == "conv_norm_out") return side + "norm_out." + join_key(parts, 2);
  const auto number = [&](std::size_t i) { return i < parts.size() ? key_number(parts[i]).value_or(-1) : -1; };
  if (parts.size() > 4 && parts[1] == "mid_block") {
    std::string rest = join_key(parts, 4);
    if (parts[2] == "resnets" && number(3) >= 0) return fmt::format("{}mid.block_{}.{}", side, number(3) + 1, rest);
    replace_start_inversely(rest, vae_attention);
    return side + "mid.attn_1." + rest;
  }
  if (parts.size() < 6) return name;
  const bool down = parts[1] == "down_blocks";
  const auto block = number(2);
  require((down || parts[1] == "up_blocks") && block >= 0 && block < levels,
          "'{}': has no name in a single-file checkpoint", name);
  const auto place = fmt::format("{}{}.{}.", side, down ? "down" : "up", down ? block : levels - 1 - block);
  if (parts[3] == "downsamplers") return place + "downsample." + join_key(parts, 5);
  if (parts[3] == "upsamplers") return place + "upsample." + join_key(parts, 5);
  for (auto& part : parts) {
    if (part == "conv_shortcut") part = "nin_shortcut";
  }
  return place + "block." + join_key(parts, 4);
}

}  // namespace ip2p::detail
