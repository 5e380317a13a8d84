#pragma once

/// \file
/// Maps tensor names of single-file latent-diffusion checkpoints (CompVis and Stability layouts) to those of diffusers
/// and transformers. Keys are given without their component prefix. An unknown name is returned unchanged, so that the
/// loader can report it as unexpected.

#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p::detail {

/// Splits at dots: "a.12.b" becomes {"a", "12", "b"}.
inline std::vector<std::string> split_key(std::string_view key) {
  std::vector<std::string> parts;
  for (std::size_t start = 0;;) {
    const auto dot = key.find('.', start);
    parts.emplace_back(key.substr(start, dot - start));
    if (dot == std::string_view::npos) return parts;
    start = dot + 1;
  }
}

/// The number that `part` spells (at most four digits), or nothing.
inline std::optional<std::int64_t> key_number(std::string_view part) {
  if (part.empty() || part.size() > 4) return std::nullopt;
  std::int64_t value = 0;
  for (const char c : part) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

/// Joins the parts from index `first` on with dots.
inline std::string join_key(const std::vector<std::string>& parts, std::size_t first) {
  std::string joined;
  for (std::size_t i = first; i < parts.size(); ++i) joined += (i > first ? "." : "") + parts[i];
  return joined;
}

/// Replaces a leading `from` by `to`; false if `key` does not start with `from`.
inline bool replace_start(std::string& key, std::string_view from, std::string_view to) {
  if (!key.starts_with(from)) return false;
  key.replace(0, from.size(), to);
  return true;
}

/// A name, or the start of one: first in latent diffusion, then in diffusers.
using KeyPair = std::pair<std::string_view, std::string_view>;

/// UNet layers outside the blocks.
inline constexpr std::array<KeyPair, 5> ldm_whole{{
    {"time_embed.0.", "time_embedding.linear_1."},
    {"time_embed.2.", "time_embedding.linear_2."},
    {"input_blocks.0.0.", "conv_in."},
    {"out.0.", "conv_norm_out."},
    {"out.2.", "conv_out."},
}};

/// Layers of a UNet's residual block.
inline constexpr std::array<KeyPair, 6> ldm_residual{{
    {"in_layers.0.", "norm1."},
    {"in_layers.2.", "conv1."},
    {"emb_layers.1.", "time_emb_proj."},
    {"out_layers.0.", "norm2."},
    {"out_layers.3.", "conv2."},
    {"skip_connection.", "conv_shortcut."},
}};

/// The diffusers name of a UNet tensor. \param layers_per_block residual blocks per resolution on the way down
inline std::string ldm_unet_key(const std::string& key, std::int64_t layers_per_block) {
  std::string result = key;
  for (const auto& [from, to] : ldm_whole) {
    if (replace_start(result, from, to)) return result;
  }
  const auto parts = split_key(key);
  const auto number = [&](std::size_t i) { return i < parts.size() ? key_number(parts[i]) : std::nullopt; };
  const auto residual_rest = [&](std::size_t first) {
    std::string rest = join_key(parts, first);
    for (const auto& [from, to] : ldm_residual) {
      if (replace_start(rest, from, to)) break;
    }
    return rest;
  };
  if (parts[0] == "middle_block" && number(1) && parts.size() > 2) {
    const auto place = *number(1);
    if (place == 1) return "mid_block.attentions.0." + join_key(parts, 2);
    return fmt::format("mid_block.resnets.{}.{}", place / 2, residual_rest(2));
  }
  const bool down = parts[0] == "input_blocks";
  if ((!down && parts[0] != "output_blocks") || !number(1) || !number(2) || parts.size() < 4) return key;
  const std::int64_t index = down ? *number(1) - 1 : *number(1);
  const std::int64_t block = index / (layers_per_block + 1);
  const std::int64_t layer = index % (layers_per_block + 1);
  const std::string prefix = fmt::format("{}_blocks.{}.", down ? "down" : "up", block);
  if (parts[3] == "op") return prefix + "downsamplers.0.conv." + join_key(parts, 4);
  if (parts[3] == "conv") return prefix + "upsamplers.0.conv." + join_key(parts, 4);
  if (*number(2) == 0) return fmt::format("{}resnets.{}.{}", prefix, layer, residual_rest(3));
  return fmt::format("{}attentions.{}.{}", prefix, layer, join_key(parts, 3));
}

/// Tensors of an autoencoder's attention: latent diffusion's names, then those of older diffusers.
inline constexpr std::array<KeyPair, 9> vae_attention{{
    {"norm.", "group_norm."},
    {"q.", "to_q."},
    {"k.", "to_k."},
    {"v.", "to_v."},
    {"proj_out.", "to_out.0."},
    {"query.", "to_q."},
    {"key.", "to_k."},
    {"value.", "to_v."},
    {"proj_attn.", "to_out.0."},
}};

/// Renames the tensors of the attention in an autoencoder's middle block to today's to_q, to_k, to_v, to_out.0, from
/// q, k, v, proj_out (LDM) or query, key, value, proj_attn (diffusers before 0.15).
inline std::string vae_attention_key(const std::string& key) {
  const auto marker = key.find("mid_block.attentions.0.");
  if (marker == std::string::npos) return key;
  const auto start = marker + std::string_view("mid_block.attentions.0.").size();
  std::string rest = key.substr(start);
  for (const auto& [from, to] : vae_attention) {
    if (replace_start(rest, from, to)) break;
  }
  return key.substr(0, start) + rest;
}

/// The diffusers name of an autoencoder tensor.
/// \param levels number of resolutions; the decoder counts them from the other end
inline std::string ldm_vae_key(const std::string& key, std::int64_t levels) {
  auto parts = split_key(key);
  if ((parts[0] != "encoder" && parts[0] != "decoder") || parts.size() < 3) return key;
  const std::string side = parts[0] + ".";
  if (parts[1] == "norm_out") return side + "conv_norm_out." + join_key(parts, 2);
  if (parts[1] == "mid") {
    if (parts[2] == "attn_1") return vae_attention_key(side + "mid_block.attentions.0." + join_key(parts, 3));
    if (parts[2] == "block_1") return side + "mid_block.resnets.0." + join_key(parts, 3);
    if (parts[2] == "block_2") return side + "mid_block.resnets.1." + join_key(parts, 3);
    return key;
  }
  const auto level = key_number(parts[2]);
  if ((parts[1] != "down" && parts[1] != "up") || !level || parts.size() < 5) return key;
  const bool down = parts[1] == "down";
  const std::string block = fmt::format("{}{}_blocks.{}.", side, parts[1], down ? *level : levels - 1 - *level);
  if (parts[3] == "downsample") return block + "downsamplers.0." + join_key(parts, 4);
  if (parts[3] == "upsample") return block + "upsamplers.0." + join_key(parts, 4);
  if (parts[3] != "block") return key;
  for (auto& part : parts) {
    if (part == "nin_shortcut") part = "conv_shortcut";
  }
  return block + "resnets." + join_key(parts, 4);
}

/// The CLIPTextModel name of an OpenCLIP text tensor other than in_proj; empty if CLIPTextModel has no such tensor.
inline std::string open_clip_key(const std::string& key) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> layer{{
      {"ln_1.", "layer_norm1."},
      {"ln_2.", "layer_norm2."},
      {"attn.out_proj.", "self_attn.out_proj."},
      {"mlp.c_fc.", "mlp.fc1."},
      {"mlp.c_proj.", "mlp.fc2."},
  }};
  if (key == "positional_embedding") return "text_model.embeddings.position_embedding.weight";
  if (key == "token_embedding.weight") return "text_model.embeddings.token_embedding.weight";
  if (key == "text_projection" || key == "logit_scale") return {};
  std::string result = key;
  if (replace_start(result, "ln_final.", "text_model.final_layer_norm.")) return result;
  const auto parts = split_key(key);
  if (parts.size() < 5 || parts[0] != "transformer" || parts[1] != "resblocks") return key;
  std::string rest = join_key(parts, 3);
  for (const auto& [from, to] : layer) {
    if (replace_start(rest, from, to)) break;
  }
  return fmt::format("text_model.encoder.layers.{}.{}", parts[2], rest);
}

/// The name of the EMA's copy of "model." + `key`: the same without dots.
inline std::string ema_key(std::string_view key) {
  std::string result = "model_ema.";
  for (const char c : key) {
    if (c != '.') result += c;
  }
  return result;
}

/// Weights under CLIPTextModel's names, whichever program wrote them: adds a missing `text_model.` prefix and drops
/// `position_ids` (integers that older programs store) and a whole CLIP's vision tower and projections.
inline Weights clip_text_weights(const Weights& stored) {
  Weights result;
  for (const auto& [name, entry] : stored) {
    if (name.ends_with("embeddings.position_ids") || name.starts_with("vision_model.") ||
        name.starts_with("visual_projection.") || name == "logit_scale" || name == "text_projection.weight") {
      continue;
    }
    const bool bare =
        name.starts_with("embeddings.") || name.starts_with("encoder.") || name.starts_with("final_layer_norm.");
    result.insert_or_assign(bare ? "text_model." + name : name, entry);
  }
  return result;
}

/// Weights under today's AutoencoderKL names, from those of older versions. Attention weights stored as 1x1
/// convolutions become matrices.
inline Weights kl_autoencoder_weights(const Weights& stored) {
  Weights result;
  for (const auto& [name, entry] : stored) {
    const bool attention = name.find("mid_block.attentions.0.") != std::string::npos;
    result.insert_or_assign(vae_attention_key(name), attention ? as_matrix(entry) : entry);
  }
  return result;
}

}  // namespace ip2p::detail
