#pragma once

/// \file
/// The error for a file in which no model was found.

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p::detail {

/// Reports what kind of model the tensors seem to belong to, or what was looked for. \throws Error always
[[noreturn]] inline void refuse_undetected(const std::filesystem::path& path, const Weights& all) {
  struct Family {
    std::string_view part, name;
  };
  static constexpr Family families[] = {
      {"conditioner.embedders.", "Stable Diffusion XL"},
      {"control_model.", "a ControlNet"},
      {"joint_blocks.", "Stable Diffusion 3"},
      {"double_blocks.", "Flux"},
      {"lora_unet_", "a LoRA, which is not a model by itself"},
      {".lora_down.", "a LoRA, which is not a model by itself"},
      {".lora_A.", "a LoRA, which is not a model by itself"},
      {"vision_model.", "a CLIP in transformers' layout, which needs the config.json beside it: open its folder"},
      {"encoder.layers.", "a component in diffusers' layout, which needs the config.json beside it: open its folder"},
      {"down_blocks.", "a component in diffusers' layout, which needs the config.json beside it: open its folder"},
      {"string_to_param", "a textual inversion"},
  };
  std::vector<std::string> names;
  for (const auto& [name, entry] : all) names.push_back(name);
  for (const auto& [part, family] : families) {
    const auto found = std::find_if(names.begin(), names.end(),
                                    [part = part](const auto& name) { return name.find(part) != std::string::npos; });
    require(found == names.end(), "{}: is not a model that ip2p reads: the tensor '{}' is that of {}", path.string(),
            found == names.end() ? std::string() : printable(*found), family);
  }
  constexpr std::string_view unet_key = "model.diffusion_model.input_blocks.0.0.weight";
  constexpr std::string_view vae_key = "first_stage_model.encoder.down.0.block.0.conv2.weight";
  constexpr std::string_view text_key = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";
  throw_error(
      "{}: cannot tell what model this is: looked among its {} tensors for '{}' (UNet{}), '{}' (autoencoder{}), and "
      "'{}' or 'cond_stage_model.model.token_embedding.weight' (text encoder{}); found {}",
      path.string(), names.size(), unet_key, nearest_names_clause(unet_key, names, 1), vae_key,
      nearest_names_clause(vae_key, names, 1), text_key, nearest_names_clause(text_key, names, 1), name_list(names, 4));
}

}  // namespace ip2p::detail
