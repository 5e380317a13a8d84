#pragma once

/// \file
/// Components of a single-file latent-diffusion checkpoint: which parts it holds, their diffusers configuration
/// inferred from the tensors' shapes, and their weights under diffusers' names.

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ldm_keys.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p::detail {

/// The shape of `name`. Throws `Error` naming the file and the tensor if it is missing or has fewer than `rank` axes.
inline const std::vector<std::int64_t>& ldm_shape(const Weights& weights, const std::string& name, std::size_t rank,
                                                  const std::string& where) {
  const auto found = weights.find(name);
  require(found != weights.end(), "{}: lacks the tensor '{}'", where, name);
  require(found->second.shape.size() >= rank, "{}: tensor '{}' has the shape {}, expected {} axes or more", where, name,
          shape_text(found->second.shape), rank);
  return found->second.shape;
}

/// The number of tensors named `prefix` + i + `suffix`, counting i from 0 to the first gap.
inline std::int64_t count_ldm(const Weights& weights, const std::string& prefix, const std::string& suffix) {
  std::int64_t count = 0;
  while (weights.contains(fmt::format("{}{}{}", prefix, count, suffix))) ++count;
  return count;
}

/// UNet2DConditionModel's configuration, inferred from the shapes of an LDM UNet.
///
/// What the shapes do not reveal is taken from Stable Diffusion: 8 heads per block if the projections around the
/// transformers are convolutions (1.x), heads of 64 channels if they are linear (2.x), and 32 normalisation groups.
inline nlohmann::json ldm_unet_config(const Weights& unet, const std::string& where) {
  std::vector<std::int64_t> channels, depths, residuals;
  std::vector<bool> attends;
  std::int64_t context = 0;
  bool linear = false;
  const auto& conv_in = ldm_shape(unet, "input_blocks.0.0.weight", 4, where);
  for (std::int64_t i = 1;; ++i) {
    const auto block = fmt::format("input_blocks.{}.", i);
    if (unet.contains(block + "0.op.weight")) {
      require(!channels.empty() && residuals.back() > 0, "{}: '{}' downsamples a resolution without residual blocks",
              where, block);
      channels.push_back(0);
      depths.push_back(0);
      residuals.push_back(0);
      attends.push_back(false);
      continue;
    }
    if (!unet.contains(block + "0.in_layers.2.weight")) break;
    if (channels.empty()) {
      channels = depths = residuals = {0};
      attends = {false};
    }
    channels.back() = ldm_shape(unet, block + "0.in_layers.2.weight", 4, where)[0];
    ++residuals.back();
    const auto transformer = block + "1.transformer_blocks.";
    if (unet.contains(transformer + "0.attn2.to_k.weight")) {
      attends.back() = true;
      depths.back() = count_ldm(unet, transformer, ".attn2.to_k.weight");
      context = ldm_shape(unet, transformer + "0.attn2.to_k.weight", 2, where)[1];
      linear = ldm_shape(unet, block + "1.proj_in.weight", 2, where).size() == 2;
    }
  }
  require(!channels.empty(), "{}: lacks the tensor 'input_blocks.1.0.in_layers.2.weight' of the UNet", where);
  const std::set<std::int64_t> layers(residuals.begin(), residuals.end());
  require(layers.size() == 1 && residuals[0] > 0,
          "{}: the resolutions of the UNet have [{}] residual blocks, expected equal numbers", where,
          fmt::join(residuals, ", "));
  auto down = nlohmann::json::array(), up = nlohmann::json::array(), heads = nlohmann::json::array();
  for (std::size_t i = 0; i < channels.size(); ++i) {
    down.push_back(attends[i] ? "CrossAttnDownBlock2D" : "DownBlock2D");
    up.push_back(attends[channels.size() - 1 - i] ? "CrossAttnUpBlock2D" : "UpBlock2D");
    heads.push_back(linear ? std::max<std::int64_t>(channels[i] / 64, 1) : 8);
    depths[i] = std::max<std::int64_t>(depths[i], 1);
  }
  auto config = config_of(R"({"_class_name": "UNet2DConditionModel", "norm_num_groups": 32, "norm_eps": 1e-5,
                              "act_fn": "silu", "center_input_sample": false, "flip_sin_to_cos": true, "freq_shift": 0,
                              "downsample_padding": 1, "mid_block_scale_factor": 1, "sample_size": 64})",
                          {{"in_channels", conv_in[1]},
                           {"out_channels", ldm_shape(unet, "out.2.weight", 4, where)[0]},
                           {"layers_per_block", residuals[0]},
                           {"cross_attention_dim", context},
                           {"attention_head_dim", 8}});
  config["block_out_channels"] = channels;
  config["down_block_types"] = std::move(down);
  config["up_block_types"] = std::move(up);
  config["use_linear_projection"] = linear;
  // A distilled network may lack the middle block.
  const bool middle =
      std::any_of(unet.begin(), unet.end(), [](const auto& item) { return item.first.starts_with("middle_block."); });
  config["mid_block_type"] = middle ? nlohmann::json("UNetMidBlock2DCrossAttn") : nlohmann::json();
  if (linear) config["attention_head_dim"] = std::move(heads);
  const bool single = std::set<std::int64_t>(depths.begin(), depths.end()) == std::set<std::int64_t>{1};
  config["transformer_layers_per_block"] = single ? nlohmann::json(1) : nlohmann::json(depths);
  return config;
}

/// The UNet with its weights renamed from LDM's to diffusers' names, and its configuration.
inline ModelComponent ldm_unet(const Weights& unet, const std::string& where) {
  ModelComponent result{.config = ldm_unet_config(unet, where), .weights = {}, .source = {}};
  const auto layers = result.config.at("layers_per_block").get<std::int64_t>();
  for (const auto& [name, entry] : unet) result.weights.insert_or_assign(ldm_unet_key(name, layers), entry);
  return result;
}

/// The autoencoder with its weights renamed from LDM's to AutoencoderKL's names. Its configuration is inferred from the
/// shapes, except for the scaling factor, which is Stable Diffusion's 0.18215.
inline ModelComponent ldm_vae(const Weights& vae, const std::string& where) {
  std::vector<std::int64_t> channels;
  const auto levels = count_ldm(vae, "encoder.down.", ".block.0.conv2.weight");
  require(levels > 0, "{}: lacks the tensor 'encoder.down.0.block.0.conv2.weight' of the autoencoder", where);
  for (std::int64_t i = 0; i < levels; ++i) {
    channels.push_back(ldm_shape(vae, fmt::format("encoder.down.{}.block.0.conv2.weight", i), 4, where)[0]);
  }
  ModelComponent result;
  const std::vector<std::string> down(channels.size(), "DownEncoderBlock2D"), up(channels.size(), "UpDecoderBlock2D");
  result.config = config_of(R"({"_class_name": "AutoencoderKL", "norm_num_groups": 32, "act_fn": "silu",
                                "sample_size": 512, "scaling_factor": 0.18215})",
                            {{"in_channels", ldm_shape(vae, "encoder.conv_in.weight", 4, where)[1]},
                             {"out_channels", ldm_shape(vae, "decoder.conv_out.weight", 4, where)[0]},
                             {"latent_channels", ldm_shape(vae, "decoder.conv_in.weight", 4, where)[1]},
                             {"layers_per_block", count_ldm(vae, "encoder.down.0.block.", ".conv2.weight")}});
  result.config["block_out_channels"] = channels;
  result.config["down_block_types"] = down;
  result.config["up_block_types"] = up;
  Weights renamed;
  for (const auto& [name, entry] : vae) {
    // Training leaves its discriminator, loss and EMA in the file; they are not part of the autoencoder.
    if (name.starts_with("loss.") || name.starts_with("model_ema.")) continue;
    renamed.insert_or_assign(ldm_vae_key(name, levels), entry);
  }
  result.weights = kl_autoencoder_weights(renamed);
  return result;
}

/// CLIPTextModel's configuration, inferred from its tensors' shapes. All published towers have heads of 64 channels.
inline nlohmann::json clip_text_config(const Weights& text, bool open_clip, const std::string& where) {
  const auto& tokens = ldm_shape(text, "text_model.embeddings.token_embedding.weight", 2, where);
  const auto layers = count_ldm(text, "text_model.encoder.layers.", ".layer_norm1.weight");
  require(layers > 0, "{}: lacks the tensor 'text_model.encoder.layers.0.layer_norm1.weight'", where);
  auto config = config_of(
      R"({"_class_name": "CLIPTextModel", "model_type": "clip_text_model", "layer_norm_eps": 1e-5})",
      {{"vocab_size", tokens[0]},
       {"hidden_size", tokens[1]},
       {"intermediate_size", ldm_shape(text, "text_model.encoder.layers.0.mlp.fc1.weight", 2, where)[0]},
       {"num_hidden_layers", layers},
       {"num_attention_heads", std::max<std::int64_t>(tokens[1] / 64, 1)},
       {"max_position_embeddings", ldm_shape(text, "text_model.embeddings.position_embedding.weight", 2, where)[0]},
       {"projection_dim", tokens[1]},
       {"bos_token_id", tokens[0] - 2},
       {"eos_token_id", tokens[0] - 1}});
  config["hidden_act"] = open_clip ? "gelu" : "quick_gelu";
  return config;
}

/// An OpenCLIP transformer under CLIPTextModel's names; in_proj is split into query, key and value.
inline Weights open_clip_tower(const Weights& stored, const std::string& where) {
  Weights result;
  for (const auto& [name, entry] : stored) {
    const auto in_proj = name.find(".attn.in_proj_");
    if (in_proj == std::string::npos) {
      if (auto target = open_clip_key(name); !target.empty()) result.emplace(std::move(target), entry);
      continue;
    }
    const auto block = split_key(name);
    const auto kind = name.substr(in_proj + std::string_view(".attn.in_proj_").size());
    const auto rows = entry.shape.empty() ? 0 : entry.shape[0];
    require(block.size() > 2 && rows % 3 == 0, "{}: tensor '{}' has the shape {}, expected three equal blocks of rows",
            where, name, shape_text(entry.shape));
    for (int i = 0; i < 3; ++i) {
      result.emplace(fmt::format("text_model.encoder.layers.{}.self_attn.{}_proj.{}", block[2], "qkv"[i], kind),
                     rows_of(entry, i * (rows / 3), rows / 3, name));
    }
  }
  return result;
}

/// An OpenCLIP text tower under CLIPTextModel's names. The last layer is dropped, because Stable Diffusion 2 was
/// trained on the output of the layer before it.
inline ModelComponent open_clip_text(const Weights& stored, const std::string& where) {
  const auto layers = count_ldm(stored, "transformer.resblocks.", ".ln_1.weight");
  require(layers > 1, "{}: an OpenCLIP text tower of {} layers, expected 2 or more", where, layers);
  // ViT-H has 24 layers; in a file with 23 the last one has already been dropped.
  const bool cut = layers == 23 && ldm_shape(stored, "ln_final.weight", 1, where)[0] == 1024;
  Weights used = stored;
  if (!cut) {
    const auto last = fmt::format("transformer.resblocks.{}.", layers - 1);
    std::erase_if(used, [&](const auto& item) { return item.first.starts_with(last); });
  }
  ModelComponent result{.config = {}, .weights = open_clip_tower(used, where), .source = {}};
  result.config = clip_text_config(result.weights, true, where);
  return result;
}

/// Prefix of the autoencoder's tensors: the whole model's, diffusers' short form, or none; "-" if there is no
/// autoencoder.
inline std::string ldm_vae_prefix(const Weights& all) {
  for (const char* prefix : {"first_stage_model.", "vae.", ""}) {
    if (all.contains(std::string(prefix) + "encoder.down.0.block.0.conv2.weight")) return prefix;
  }
  return "-";
}

/// Prefix of the UNet's tensors: the whole model's or none; "-" if there is no UNet.
inline std::string ldm_unet_prefix(const Weights& all) {
  for (const char* prefix : {"model.diffusion_model.", ""}) {
    if (all.contains(std::string(prefix) + "input_blocks.0.0.weight")) return prefix;
  }
  return "-";
}

/// The UNet's weights under LDM names without a prefix: the exponential moving average (EMA) if `prefer_ema` is set and
/// the file holds one, otherwise the final training weights. Reports which in `source`. Throws `Error` for an
/// incomplete EMA.
inline Weights choose_ldm_unet(const Weights& all, const std::string& prefix, bool prefer_ema, const std::string& where,
                               std::string& source) {
  Weights plain = without_prefix(all, prefix);
  if (prefix.empty()) {  // a file that holds only a UNet has no EMA
    source = "the only weights of the file";
    return plain;
  }
  std::size_t averaged = 0;
  std::string absent;
  Weights average;
  for (const auto& [name, entry] : plain) {
    const auto found = all.find(ema_key("diffusion_model." + name));
    if (found == all.end()) {
      absent = name;
    } else {
      ++averaged;
      average.emplace(name, found->second);
    }
  }
  if (averaged == 0) {
    source = "the only weights of the file; it holds no EMA";
    return plain;
  }
  if (!prefer_ema) {
    source = "the non-EMA weights, as asked for; the file also holds an EMA";
    return plain;
  }
  if (averaged != plain.size()) {
    throw SettingNeeded(
        fmt::format("{}: the EMA covers {} of {} UNet tensors (not '{}')", where, averaged, plain.size(), absent),
        "prefer_ema = false", "to use the raw weights");
  }
  source = "the EMA weights";
  return average;
}

}  // namespace ip2p::detail
