#pragma once

/// \file
/// Tensor names in LoRA files, as kohya's scripts, LyCORIS, diffusers (old and new) and PEFT write them.
///
/// All names are converted to one form: the component, and the layer's diffusers or transformers name with "_" in place
/// of ".", as in kohya's scripts; that is still unique. Blocks with LDM names keep them until the number of layers per
/// block is known (`lora_module_in`).

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/io/ldm_keys.hpp"

namespace ip2p {

/// A tensor's role in its adapter: y += scale * (alpha / rank) * up(mid(down(x))).
enum class LoraPart { down, up, mid, alpha };

namespace detail {

/// The parts of a tensor's name.
struct LoraKey {
  std::string component;     ///< "unet" or "text_encoder".
  std::string base;          ///< The name in the file, without the suffix that names the part.
  std::string module;        ///< The layer, e.g. "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q".
  std::string adapter = {};  ///< PEFT: the adapter's name; often "default", or none.
  LoraPart part = LoraPart::down;
};

/// The kind of adapter that `name` belongs to, if that is not a plain LoRA; otherwise empty.
inline std::string_view foreign_adapter(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 17> kinds{{
      {".dora_scale", "DoRA"},
      {".lora_magnitude_vector", "DoRA"},
      {".hada_", "LoHa"},
      {".lokr_", "LoKr"},
      {".oft_", "OFT"},
      {".boft_", "BOFT"},
      {".glora_", "GLoRA"},
      {".a1.weight", "GLoRA"},
      {".b1.weight", "GLoRA"},
      {".on_input", "(IA)^3"},
      {".diff", "a full difference of weights"},
      {".diff_b", "a full difference of weights"},
      {".w_norm", "a difference of norms"},
      {".b_norm", "a difference of norms"},
      {".lora_B.bias", "a LoRA with biases"},
      {".lora_up.bias", "a LoRA with biases"},
      {".lora.up.bias", "a LoRA with biases"},
  }};
  for (const auto& [part, kind] : kinds) {
    const auto position = name.find(part);
    if (position == std::string_view::npos) continue;
    const auto rest = name.substr(position + part.size());
    if (part.ends_with('_') || rest.empty() || rest.starts_with('.')) return kind;
  }
  return {};
}

/// `text` with every `from` replaced by `to`.
inline std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  std::size_t begin = 0;
  for (auto position = text.find(from); position != std::string_view::npos; position = text.find(from, begin)) {
    result.append(text.substr(begin, position - begin)).append(to);
    begin = position + from.size();
  }
  return result.append(text.substr(begin));
}

/// Parses a tensor's name. Returns nothing if no known program uses such a name for a LoRA of this library's models.
inline std::optional<LoraKey> parse_lora_key(const std::string& name) {
  using Part = std::pair<std::string_view, LoraPart>;
  static constexpr std::array<Part, 12> endings{{
      {".lora_down.weight", LoraPart::down},
      {".lora_up.weight", LoraPart::up},
      {".lora_mid.weight", LoraPart::mid},
      {".alpha", LoraPart::alpha},
      {".lora_A.weight", LoraPart::down},
      {".lora_B.weight", LoraPart::up},
      {".lora.down.weight", LoraPart::down},
      {".lora.up.weight", LoraPart::up},
      {".lora_linear_layer.down.weight", LoraPart::down},
      {".lora_linear_layer.up.weight", LoraPart::up},
      {"_lora.down.weight", LoraPart::down},
      {"_lora.up.weight", LoraPart::up},
  }};
  // PEFT puts the adapter's name in between.
  static constexpr std::array<Part, 2> named{{{".lora_A.", LoraPart::down}, {".lora_B.", LoraPart::up}}};
  // Several can follow each other.
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 15> prefixes{{
      {"base_model.model.", ""},
      {"lora_unet_", "unet"},
      {"lora_unet.", "unet"},
      {"lora_te_", "text_encoder"},
      {"lora_te.", "text_encoder"},
      {"lora_te1_", "text_encoder"},
      {"lora_te1.", "text_encoder"},
      {"lycoris_unet_", "unet"},
      {"lycoris_te_", "text_encoder"},
      {"lycoris_te1_", "text_encoder"},
      {"lycoris_", ""},
      {"model.diffusion_model.", "unet"},
      {"diffusion_model.", "unet"},
      {"unet.", "unet"},
      {"text_encoder.", "text_encoder"},
  }};
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 10> bare{{
      {"down_blocks.", "unet"},
      {"mid_block.", "unet"},
      {"up_blocks.", "unet"},
      {"conv_in.", "unet"},
      {"conv_out.", "unet"},
      {"time_embedding.", "unet"},
      {"input_blocks.", "unet"},
      {"middle_block.", "unet"},
      {"output_blocks.", "unet"},
      {"text_model.", "text_encoder"},
  }};
  std::size_t size = std::string::npos;
  LoraPart part = LoraPart::down;
  std::string adapter;
  for (const auto& [ending, meaning] : endings) {
    if (!name.ends_with(ending)) continue;
    size = name.size() - ending.size();
    part = meaning;
    break;
  }
  constexpr std::string_view weight = ".weight";
  for (const auto& [middle, meaning] : named) {
    const auto start = size == std::string::npos && name.ends_with(weight) ? name.rfind(middle) : std::string::npos;
    if (start == std::string::npos) continue;
    adapter = name.substr(start + middle.size(), name.size() - weight.size() - start - middle.size());
    if (adapter.empty() || adapter.find('.') != std::string::npos) continue;
    size = start;
    part = meaning;
    break;
  }
  if (size == std::string::npos) return std::nullopt;
  LoraKey key{.component = {}, .base = name.substr(0, size), .module = {}, .adapter = std::move(adapter), .part = part};
  if (key.base.ends_with("_lora")) key.base.resize(key.base.size() - 5);  // "...to_q_lora.alpha"
  std::string module = key.base;
  bool underlined = false;  // LyCORIS without a component: "lycoris_down_blocks_0_..."
  for (bool again = true; again;) {
    again = false;
    for (const auto& [prefix, component] : prefixes) {
      if (!replace_start(module, prefix, "")) continue;
      if (!component.empty()) key.component = component;
      underlined = prefix == "lycoris_";
      again = true;
      break;
    }
  }
  const auto start_of = [&](std::string_view start) {
    return (module + ".").starts_with(start) ||
           (underlined && module.starts_with(std::string(start.substr(0, start.size() - 1)) + "_"));
  };
  for (const auto& [start, component] : bare) {
    if (key.component.empty() && start_of(start)) key.component = component;
  }
  if (key.component.empty()) return std::nullopt;

  module = replace_all(replace_all(module, ".processor.", "."), ".", "_");
  if (key.component == "unet") {
    if (module.ends_with("_to_out")) module += "_0";
  } else {
    constexpr std::string_view old = "self_attn_to_";
    if (const auto position = module.find(old); position != std::string::npos) {
      module = module.substr(0, position) + "self_attn_" + module.substr(position + old.size()) + "_proj";
    }
    if (!module.starts_with("text_model_")) module.insert(0, "text_model_");
  }
  key.module = module;
  return key;
}

/// Converts `LoraKey::module` to diffusers' block names. \param layers_per_block of the UNet, see `ldm_unet_key`
inline std::string lora_module_in(const std::string& module, std::int64_t layers_per_block) {
  std::string dotted = module;
  if (module == "time_embed_0" || module == "time_embed_2" || module == "out_0" || module == "out_2") {
    dotted[module.size() - 2] = '.';
  } else {
    constexpr std::array<std::string_view, 3> blocks{"input_blocks_", "middle_block_", "output_blocks_"};
    const auto block = std::find_if(blocks.begin(), blocks.end(), [&](auto name) { return module.starts_with(name); });
    if (block == blocks.end()) return module;
    // "input_blocks_4_1_proj_in" -> "input_blocks.4.1.proj_in": one number in the middle, two elsewhere.
    auto position = block->size() - 1;
    for (int numbers = module.starts_with("middle") ? 1 : 2; numbers >= 0 && position < module.size(); --numbers) {
      dotted[position] = '.';
      position = std::min(module.find('_', position + 1), module.size());
    }
    for (const std::string_view layers : {".in_layers_", ".out_layers_", ".emb_layers_"}) {
      if (const auto found = dotted.find(layers); found != std::string::npos) dotted[found + layers.size() - 1] = '.';
    }
  }
  auto name = ldm_unet_key(dotted + ".", layers_per_block);
  name.pop_back();
  return replace_all(name, ".", "_");
}

}  // namespace detail
}  // namespace ip2p
