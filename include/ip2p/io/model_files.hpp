#pragma once

/// \file
/// Published models on disk: diffusers folders, single-file checkpoints, and TAESD, behind one set of names.

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

#include "ip2p/core/error.hpp"
#include "ip2p/io/folder_parts.hpp"
#include "ip2p/io/hub_cache.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/single_file_parts.hpp"
#include "ip2p/io/tokenizer_files.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

/// Options of `ModelFiles::open`.
struct ModelFilesOptions {
  /// Take the exponential moving average of the UNet where a single file or a training checkpoint's folder holds one.
  bool prefer_ema = true;
  /// Folders: "fp16" takes `*.fp16.safetensors`; empty takes the plain files, or else the only variant there is.
  std::string variant{};
  /// Folder with vocab.json and merges.txt (or with a folder `tokenizer` that has them); needed for single files, which
  /// hold no tokenizer. May be a name on the Hub. Takes precedence over a model folder's own.
  std::filesystem::path tokenizer{};
  /// Another model whose autoencoder takes the place of this one's: anything that `ModelFiles::open` opens and that has
  /// a "vae", so also a component's folder or a single file of an autoencoder alone (Stable Diffusion's ft-MSE, say).
  std::filesystem::path vae{};
  /// Single files: "epsilon" or "v_prediction". Empty: what the file's metadata or marks (`v_pred`) say, or else
  /// epsilon. The shapes of Stable Diffusion 2 are the same for both; if such a file does not say which it is, its
  /// scheduler cannot be read.
  std::string prediction_type{};
  /// Another model that gives the components and the tokenizer that this one lacks, such as the model that the UNet of
  /// a training checkpoint was trained from.
  std::filesystem::path base{};
  /// Component name -> JSON object that is merged over its configuration (RFC 7396), for what shapes cannot tell.
  nlohmann::json overrides = nlohmann::json::object();
  /// Mapped by default: a 3.8 GB file whose tensors are all converted on the way in loads in 1.2 s against 6.5 s
  /// copied, and in 0.03 s against 3.1 s where they are used as they are (one thread, file in the page cache). See
  /// `WeightAccess::mapped` for the one thing that must then not happen to the file.
  SafetensorsOptions weights{.access = WeightAccess::mapped, .check_finite = false};
};

/// A model on disk, of which only headers and JSON files have been read.
///
/// Components are "unet", "vae", "text_encoder", "scheduler" and "clip" (both towers of a CLIP); their weights always
/// have the names of diffusers and transformers, their configurations the form of config.json, wherever they come from.
/// Understands
/// - a diffusers folder (whole, fp16 variants, sharded), and the folder of a single component;
/// - a folder with `taesd_encoder.safetensors` and `taesd_decoder.safetensors`;
/// - a single-file checkpoint of Stable Diffusion 1.x or 2.x, of any number of input channels, or a part of one;
/// - a CLIP: the folder of a transformers CLIPModel (which also gives a "text_encoder"), or an OpenCLIP checkpoint.
/// A regular value; copies share the open files.
class ModelFiles {
 public:
  /// Settings of `open`.
  using Options = ModelFilesOptions;

  /// Opens a folder, a file, or a model's name on the Hugging Face Hub, which is looked up in the cache that diffusers
  /// fills (`resolve_model`). Throws `Error` saying what was looked for and what was found; for files that are damaged
  /// or something else see `SafetensorsFile::open`.
  static ModelFiles open(const std::filesystem::path& name, const Options& options = {}) {
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

  /// Settings that the model's authors recommend, from the entry `_ip2p_settings` of a folder's model_index.json: an
  /// object with any of steps, resolution, image_scale, text_scale, sampler; empty where there is none. Other readers
  /// of such folders pass over entries with an underscore.
  [[nodiscard]] nlohmann::json settings() const {
    const auto index = path_ / "model_index.json";
    if (!folder_ || !std::filesystem::exists(index)) return nlohmann::json::object();
    const auto json = detail::read_json_file(index);
    const auto found = json.is_object() ? json.find("_ip2p_settings") : json.end();
    if (found == json.end()) return nlohmann::json::object();
    require(found->is_object(), "{}: _ip2p_settings: expected an object, found {}", index.string(), found->type_name());
    return *found;
  }

  /// The path that was opened; for a name, what it was found to be.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Where a component comes from, for messages: "model (unet)", or "model (vae of other)".
  [[nodiscard]] std::string where(std::string_view component) const {
    const bool elsewhere = component == "vae" && !options_.vae.empty();
    return fmt::format("{} ({}{})", path_.string(), component, elsewhere ? " of " + options_.vae.string() : "");
  }

  /// Whether the files hold this component.
  [[nodiscard]] bool has(std::string_view component) const { return parts_.components.contains(component); }

  /// The component's configuration in the form of config.json. Throws `Error` listing the components if it is absent.
  [[nodiscard]] nlohmann::json config(std::string_view component) const { return find(component).config; }

  /// The component's weights, none of them read yet. Throws `Error` listing the components if it is absent.
  [[nodiscard]] Weights weights(std::string_view component) const { return find(component).weights; }

  /// The tokenizer's files. Throws `Error` telling where they were looked for and how to name them.
  [[nodiscard]] TokenizerFiles tokenizer() const {
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

  /// What was found and chosen, one line a component.
  [[nodiscard]] std::string describe() const {
    std::string text = fmt::format("{}: {}", path_.string(), parts_.kind);
    for (const auto& [name, component] : parts_.components) {
      text += fmt::format("\n  {}: {}", name, detail::text_at(component.config, "_class_name", "unnamed class"));
      if (name == "unet") {
        text += fmt::format(", {} input channels{}", channels(component, "in_channels"), purpose(component));
      }
      if (name == "scheduler") {
        text += fmt::format(", predicts {}", detail::text_at(component.config, "prediction_type", "epsilon"));
      }
      if (!component.weights.empty()) {
        std::set<std::string> types;
        for (const auto& [tensor, entry] : component.weights) types.insert(detail::safetensors_dtype_name(entry.dtype));
        const double millions = static_cast<double>(element_count(component.weights)) / 1e6;
        text += fmt::format(", {:.1f} M values in {} tensors, {}", millions, component.weights.size(),
                            fmt::join(types, "+"));
      }
      if (!component.source.empty()) text += "; " + component.source;
    }
    return text;
  }

 private:
  /// The error for a lone UNet. \param lacking what was asked of it
  [[nodiscard]] SettingNeeded base_needed(std::string_view lacking) const {
    return {
        fmt::format("{}: has no {}, because it holds only a UNet, as training checkpoints do", path_.string(), lacking),
        "base", "to add the complete model that it was trained from"};
  }

  void add_base();
  void replace_vae();
  void apply_overrides();

  const detail::ModelComponent& find(std::string_view component) const {
    const auto found = parts_.components.find(component);
    if (found == parts_.components.end()) {
      std::vector<std::string> present;
      for (const auto& [name, value] : parts_.components) present.push_back(name);
      if (present == std::vector<std::string>{"unet"}) throw base_needed(fmt::format("component '{}'", component));
      throw_error("{}: has no component '{}'; it holds {}", path_.string(), component, detail::name_list(present));
    }
    return found->second;
  }

  static std::int64_t channels(const detail::ModelComponent& component, const char* key) {
    const auto found = component.config.find(key);
    return found != component.config.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
  }
  static std::string_view purpose(const detail::ModelComponent& component) {
    switch (channels(component, "in_channels")) {
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

  std::filesystem::path path_;
  Options options_;
  bool folder_ = false;
  detail::ModelParts parts_;
  std::shared_ptr<const ModelFiles> base_;  ///< Gave the components that the files lack.
};

inline void ModelFiles::add_base() {
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

inline void ModelFiles::replace_vae() {
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
  const auto latent = channels(vae, "latent_channels");
  if (match != nullptr) {
    const auto wanted = channels(find(match), has("vae") ? "latent_channels" : "out_channels");
    require(latent == wanted || latent == 0 || wanted == 0,
            "{}: expected an autoencoder with {} latent channels in its place, found {} in '{}'", path_.string(),
            wanted, latent, options_.vae.string());
  }
  vae.source = fmt::format("from {}{}{}", options_.vae.string(), vae.source.empty() ? "" : ": ", vae.source);
  parts_.components.insert_or_assign("vae", std::move(vae));
}

inline void ModelFiles::apply_overrides() {
  require(options_.overrides.is_object(), "overrides: expected an object of component names, found {}",
          options_.overrides.type_name());
  for (const auto& [name, patch] : options_.overrides.items()) {
    static_cast<void>(find(name));
    require(patch.is_object(), "overrides: expected an object for '{}', found {}", name, patch.type_name());
    parts_.components.at(name).config.merge_patch(patch);
  }
}

}  // namespace ip2p
