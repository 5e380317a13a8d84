#pragma once

/// \file
/// What a folder holds of a model: diffusers' layout, one component, a CLIP, or TAESD.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ldm_checkpoint.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/open_clip.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/taesd_files.hpp"

namespace ip2p::detail {

/// The component of name `name` whose config.json and weights are in `folder`, a folder in `model`, or that itself.
inline ModelComponent component_of_folder(const std::string& name, const std::filesystem::path& folder,
                                          const std::filesystem::path& model, const std::string& variant,
                                          const SafetensorsOptions& weights) {
  ModelComponent component;
  component.config = read_json_file(folder / "config.json");
  auto [stored, file] = folder_weights(folder, variant, weights);
  if (name == "text_encoder") {
    stored = clip_text_weights(stored);
    if (!component.config.contains("_class_name")) {
      const auto classes = component.config.find("architectures");
      const bool named = classes != component.config.end() && classes->is_array() && !classes->empty();
      component.config["_class_name"] = named ? classes->at(0) : nlohmann::json("CLIPTextModel");
    }
  } else if (name == "vae") {
    stored = kl_autoencoder_weights(stored);
  }
  component.weights = std::move(stored);
  component.source = file.lexically_relative(model).string();  // as written: a cache's files are links
  return component;
}

/// The parts of a diffusers folder, of the folder of one component or of a CLIP, or of TAESD's two files.
/// \param prefer_ema take a training checkpoint's `unet_ema` for the UNet, where there is one
inline ModelParts folder_parts(const std::filesystem::path& path, const std::string& variant,
                               const SafetensorsOptions& weights, bool prefer_ema = true) {
  ModelParts model;
  const auto names = listing(path);
  for (const char* format : {".safetensors", ".pth"}) {
    const auto encoder = path / fmt::format("taesd_encoder{}", format);
    const auto decoder = path / fmt::format("taesd_decoder{}", format);
    if (!std::filesystem::exists(encoder) || !std::filesystem::exists(decoder)) continue;
    model.kind = "TAESD files";
    ModelComponent vae;
    vae.weights = taesd_weights(encoder, decoder, weights);
    vae.config = taesd_config(vae.weights, path.string());
    vae.source = fmt::format("taesd_encoder{0} and taesd_decoder{0}", format);
    model.components.emplace("vae", std::move(vae));
    return model;
  }
  model.kind = "model folder";
  for (const char* name : {"unet", "vae", "text_encoder"}) {
    const auto average = path / (std::string(name) + "_ema");
    if (prefer_ema && std::filesystem::exists(average / "config.json")) {
      model.components.emplace(name, component_of_folder(name, average, path, variant, weights));
      model.components[name].source += ", the EMA weights";
    } else if (std::filesystem::exists(path / name / "config.json")) {
      model.components.emplace(name, component_of_folder(name, path / name, path, variant, weights));
    } else {
      require(!std::filesystem::is_directory(path / name), "{}: expected a config.json, found {}",
              (path / name).string(), name_list(listing(path / name)));
    }
  }
  if (const auto scheduler = path / "scheduler" / "scheduler_config.json"; std::filesystem::exists(scheduler)) {
    model.components["scheduler"].config = read_json_file(scheduler);
  }
  if (!model.components.empty()) return model;

  if (std::filesystem::exists(path / "config.json")) {
    model.kind = "folder of one component";
    const auto config = read_json_file(path / "config.json");
    if (text_at(config, "model_type") == "clip") {
      model.kind = "folder of a CLIP";
      auto [stored, file] = folder_weights(path, variant, weights);
      const auto source = file.filename().string();
      model.components["clip"] = {.config = config, .weights = without_position_ids(stored), .source = source};
      model.components["clip"].config["_class_name"] = "CLIPModel";
      model.components["text_encoder"] = {
          .config = clip_text_section(config), .weights = clip_text_weights(stored), .source = source};
      model.components["text_encoder"].config["_class_name"] = "CLIPTextModel";
      return model;
    }
    std::string class_name = text_at(config, "_class_name");
    if (class_name.empty() && text_at(config, "model_type").starts_with("clip")) class_name = "CLIPTextModel";
    const char* name = class_name == "UNet2DConditionModel"      ? "unet"
                       : class_name.starts_with("Autoencoder")   ? "vae"
                       : class_name.starts_with("CLIPTextModel") ? "text_encoder"
                                                                 : nullptr;
    require(name != nullptr,
            "{}: config.json has the _class_name '{}', expected UNet2DConditionModel, AutoencoderKL, AutoencoderTiny, "
            "AutoencoderDC or CLIPTextModel",
            path.string(), class_name);
    model.components.emplace(name, component_of_folder(name, path, path, variant, weights));
    return model;
  }
  std::string hint;
  for (const auto& name : names) {
    if (name.ends_with(".safetensors") || name.ends_with(".ckpt"))
      hint = fmt::format("; to open '{}', give the path of the file itself", name);
  }
  throw_error(
      "{}: cannot tell what model this is: looked for the folders 'unet', 'vae' and 'text_encoder' with a config.json "
      "each, for a config.json, and for taesd_encoder.safetensors; found {}{}",
      path.string(), name_list(names), hint);
}

}  // namespace ip2p::detail
