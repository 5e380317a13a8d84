#pragma once

/// \file
/// The definitions behind model_files.hpp.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/definitions.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/io/folder_parts.hpp"
#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/model_files.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/single_file_parts.hpp"
#include "ip2p/io/tokenizer_files.hpp"
#include "ip2p/io/weights.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

/// A whole number of a component's configuration; 0 where it has none.
inline std::int64_t config_channels(const ModelComponent& component, const char* key) {
  const auto found = component.config.find(key);
  return found != component.config.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

/// What a UNet of so many input channels is for, in words.
inline std::string_view unet_purpose(const ModelComponent& component) {
  switch (config_channels(component, "in_channels")) {
    case 4:
      return " (text to image)";
    case 8:
      return " (InstructPix2Pix)";
    case 9:
      return " (inpainting)";
    default:
      return "";
  }
}

}  // namespace detail

IP2P_INLINE ModelFiles ModelFiles::open(const std::filesystem::path& name, const Options& options) {
  ModelFiles model;
  const auto path = resolve_model(name);
  model.path_ = path;
  model.options_ = options;
  model.options_.tokenizer = detail::resolved_if_cached(options.tokenizer);
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    model.folder_ = true;
    model.parts_ = detail::folder_parts(path, options.variant, options.weights, options.prefer_ema);
  } else {
    model.parts_ = detail::single_file_parts(path, options.prefer_ema, options.prediction_type, options.weights);
  }
  model.add_base();
  model.replace_vae();
  model.apply_overrides();
  return model;
}

IP2P_INLINE nlohmann::json ModelFiles::settings() const {
  const auto index = path_ / "model_index.json";
  if (!folder_ || !std::filesystem::exists(index)) return nlohmann::json::object();
  const auto json = detail::read_json_file(index);
  const auto found = json.is_object() ? json.find("_ip2p_settings") : json.end();
  if (found == json.end()) return nlohmann::json::object();
  require(found->is_object(), "{}: _ip2p_settings: expected an object, found {}", index.string(), found->type_name());
  return *found;
}

IP2P_INLINE std::string ModelFiles::where(std::string_view component) const {
  const bool elsewhere = component == "vae" && !options_.vae.empty();
  return fmt::format("{} ({}{})", path_.string(), component, elsewhere ? " of " + options_.vae.string() : "");
}

IP2P_INLINE SettingNeeded ModelFiles::base_needed(std::string_view lacking) const {
  return {
      fmt::format("{}: has no {}, because it holds only a UNet, as training checkpoints do", path_.string(), lacking),
      "base", "to add the complete model that it was trained from"};
}

IP2P_INLINE const detail::ModelComponent& ModelFiles::find(std::string_view component) const {
  const auto found = parts_.components.find(component);
  if (found == parts_.components.end()) {
    std::vector<std::string> present;
    for (const auto& [name, value] : parts_.components) present.push_back(name);
    if (present == std::vector<std::string>{"unet"}) throw base_needed(fmt::format("component '{}'", component));
    throw_error("{}: has no component '{}'; it holds {}", path_.string(), component, detail::name_list(present));
  }
  return found->second;
}

IP2P_INLINE TokenizerFiles ModelFiles::tokenizer() const {
  std::vector<std::filesystem::path> places;
  if (!options_.tokenizer.empty()) {
    places = {options_.tokenizer, options_.tokenizer / "tokenizer"};
  } else if (folder_) {
    // The folder of a CLIP holds them beside config.json.
    places = {path_ / "tokenizer", path_, path_.parent_path() / "tokenizer"};
  } else {
    places = {path_.parent_path() / "tokenizer"};
    if (has("clip")) places.push_back(path_.parent_path());
  }
  for (const auto& place : places) {
    // transformers 5 saves tokenizer.json alone.
    const bool apart = std::filesystem::exists(place / "vocab.json") && std::filesystem::exists(place / "merges.txt");
    if (!apart && !std::filesystem::exists(place / "tokenizer.json")) continue;
    const auto optional = [&](const char* name) {
      return std::filesystem::exists(place / name) ? detail::read_json_file(place / name) : nlohmann::json::object();
    };
    TokenizerFiles files{place / (apart ? "vocab.json" : "tokenizer.json"), place / "merges.txt",
                         optional("tokenizer_config.json"), optional("special_tokens_map.json"),
                         optional("added_tokens.json")};
    if (apart) files.listed = optional("tokenizer.json").value("added_tokens", nlohmann::json());
    // OpenCLIP fills up with token 0, "!", whatever the borrowed tokenizer says.
    if (parts_.open_clip) files.config["pad_token"] = files.special_tokens["pad_token"] = "!";
    return files;
  }
  if (base_) return base_->tokenizer();
  if (has("unet") && !has("text_encoder") && !has("vae")) throw base_needed("tokenizer");
  throw SettingNeeded(
      fmt::format("{}: no tokenizer: expected vocab.json and merges.txt in '{}'{}", path_.string(),
                  places.front().string(),
                  folder_ ? "" : " (a single-file checkpoint holds none; take that of any SD1.5 model)"),
      "tokenizer", "to name their folder");
}

IP2P_INLINE std::string ModelFiles::describe() const {
  std::string text = fmt::format("{}: {}", path_.string(), parts_.kind);
  for (const auto& [name, component] : parts_.components) {
    text += fmt::format("\n  {}: {}", name, detail::text_at(component.config, "_class_name", "unnamed class"));
    if (name == "unet") {
      text += fmt::format(", {} input channels{}", detail::config_channels(component, "in_channels"),
                          detail::unet_purpose(component));
    }
    if (name == "scheduler") {
      text += fmt::format(", predicts {}", detail::text_at(component.config, "prediction_type", "epsilon"));
    }
    if (!component.weights.empty()) {
      std::set<std::string> types;
      for (const auto& [tensor, entry] : component.weights) types.insert(detail::safetensors_dtype_name(entry.dtype));
      const double millions = static_cast<double>(element_count(component.weights)) / 1e6;
      text +=
          fmt::format(", {:.1f} M values in {} tensors, {}", millions, component.weights.size(), fmt::join(types, "+"));
    }
    if (!component.source.empty()) text += "; " + component.source;
  }
  return text;
}

IP2P_INLINE void ModelFiles::add_base() {
  if (options_.base.empty()) return;
  Options plain = options_;
  plain.base.clear();
  plain.vae.clear();
  plain.tokenizer.clear();
  plain.variant.clear();  // It may have other ones.
  plain.overrides = nlohmann::json::object();
  base_ = std::make_shared<const ModelFiles>(open(options_.base, plain));
  for (const auto& [name, component] : base_->parts_.components) {
    if (has(name)) continue;
    auto& added = parts_.components[name];
    added = component;
    added.source = fmt::format("from {}{}{}", options_.base.string(), added.source.empty() ? "" : ": ", added.source);
    if (name == "text_encoder") parts_.open_clip = base_->parts_.open_clip;
  }
}

IP2P_INLINE void ModelFiles::replace_vae() {
  if (options_.vae.empty()) return;
  Options plain = options_;
  plain.vae.clear();
  plain.variant.clear();  // It may have other ones.
  plain.overrides = nlohmann::json::object();
  detail::ModelComponent vae;
  try {
    vae = open(options_.vae, plain).find("vae");
  } catch (const SettingNeeded& error) {  // `base` is this model's, and helps here no more than the others
    throw_error("{}: expected an autoencoder in its place from '{}': {}", path_.string(), options_.vae.string(),
                error.problem());
  } catch (const Error& error) {
    throw_error("{}: expected an autoencoder in its place from '{}': {}", path_.string(), options_.vae.string(),
                error.what());
  }
  const auto* const match = has("vae") ? "vae" : has("unet") ? "unet" : nullptr;
  const auto latent = detail::config_channels(vae, "latent_channels");
  if (match != nullptr) {
    const auto wanted = detail::config_channels(find(match), has("vae") ? "latent_channels" : "out_channels");
    require(latent == wanted || latent == 0 || wanted == 0,
            "{}: expected an autoencoder with {} latent channels in its place, found {} in '{}'", path_.string(),
            wanted, latent, options_.vae.string());
  }
  vae.source = fmt::format("from {}{}{}", options_.vae.string(), vae.source.empty() ? "" : ": ", vae.source);
  parts_.components.insert_or_assign("vae", std::move(vae));
}

IP2P_INLINE void ModelFiles::apply_overrides() {
  require(options_.overrides.is_object(), "overrides: expected an object of component names, found {}",
          options_.overrides.type_name());
  for (const auto& [name, patch] : options_.overrides.items()) {
    static_cast<void>(find(name));
    require(patch.is_object(), "overrides: expected an object for '{}', found {}", name, patch.type_name());
    parts_.components.at(name).config.merge_patch(patch);
  }
}

}  // namespace ip2p
#endif
