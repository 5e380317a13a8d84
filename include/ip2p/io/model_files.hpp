#pragma once

/// \file
/// Published models on disk: diffusers folders, single-file checkpoints, and TAESD, behind one set of names.

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ldm_checkpoint.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/nearest_names.hpp"
#include "ip2p/io/open_clip.hpp"
#include "ip2p/io/taesd_files.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p {

/// Options of `ModelFiles::open`.
struct ModelFilesOptions {
  /// Single files: take the exponential moving average of the UNet where the file holds one.
  bool prefer_ema = true;
  /// Folders: "fp16" takes `*.fp16.safetensors`; empty takes the plain files, or else the only variant there is.
  std::string variant{};
  /// Folder with vocab.json and merges.txt (or with a folder `tokenizer` that has them); needed for single files, which
  /// hold no tokenizer. Takes precedence over a model folder's own.
  std::filesystem::path tokenizer{};
  /// Another model whose autoencoder takes the place of this one's: anything that `ModelFiles::open` opens and that has
  /// a "vae", so also a component's folder or a single file of an autoencoder alone (Stable Diffusion's ft-MSE, say).
  std::filesystem::path vae{};
  /// Single files: "epsilon" or "v_prediction". The shapes of Stable Diffusion 2 are the same for both, so that empty
  /// means what the file's metadata says, or else epsilon.
  std::string prediction_type{};
  /// Component name -> JSON object that is merged over its configuration (RFC 7396), for what shapes cannot tell.
  nlohmann::json overrides = nlohmann::json::object();
  /// Mapped by default: a 3.8 GB file whose tensors are all converted on the way in loads in 1.2 s against 6.5 s
  /// copied, and in 0.03 s against 3.1 s where they are used as they are (one thread, file in the page cache). See
  /// `WeightAccess::mapped` for the one thing that must then not happen to the file.
  SafetensorsOptions weights{.access = WeightAccess::mapped, .check_finite = false};
};

/// Where a model's CLIP tokenizer is.
struct TokenizerFiles {
  std::filesystem::path vocab;    ///< vocab.json: token -> id; or tokenizer.json, which holds the merges too
  std::filesystem::path merges;   ///< merges.txt, in order of rank
  nlohmann::json config;          ///< tokenizer_config.json, or an empty object
  nlohmann::json special_tokens;  ///< special_tokens_map.json, or an empty object
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

  /// Opens a folder or a file. Throws `Error` saying what was looked for and what was found; for files that are damaged
  /// or something else see `SafetensorsFile::open`.
  static ModelFiles open(const std::filesystem::path& path, const Options& options = {}) {
    ModelFiles model;
    model.path_ = path;
    model.options_ = options;
    std::error_code ignored;
    const auto status = std::filesystem::status(path, ignored);
    require(std::filesystem::exists(status), "cannot open the model '{}': there is no such file or folder",
            path.string());
    if (std::filesystem::is_directory(status)) {
      model.open_folder();
    } else {
      model.open_single_file();
    }
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

  /// The path that was opened.
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Where a component comes from, for messages: "model (unet)", or "model (vae of other)".
  [[nodiscard]] std::string where(std::string_view component) const {
    const bool elsewhere = component == "vae" && !options_.vae.empty();
    return fmt::format("{} ({}{})", path_.string(), component, elsewhere ? " of " + options_.vae.string() : "");
  }

  /// Whether the files hold this component.
  [[nodiscard]] bool has(std::string_view component) const { return components_.contains(component); }

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
                           optional("tokenizer_config.json"), optional("special_tokens_map.json")};
      // OpenCLIP fills up with token 0, "!", whatever the borrowed tokenizer says.
      if (open_clip_) files.config["pad_token"] = files.special_tokens["pad_token"] = "!";
      return files;
    }
    fail(
        "{}: no tokenizer: expected vocab.json and merges.txt in '{}'{}; name their folder with the option "
        "'tokenizer'",
        path_.string(), places.front().string(),
        folder_ ? "" : " (a single-file checkpoint holds none; take the folder 'tokenizer' of any SD1.5 model)");
  }

  /// What was found and chosen, one line a component.
  [[nodiscard]] std::string describe() const {
    std::string text = fmt::format("{}: {}", path_.string(), kind_);
    for (const auto& [name, component] : components_) {
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
  void open_folder();
  void open_component_folder(const std::string& name, const std::filesystem::path& folder);
  void open_single_file();
  void replace_vae();
  void apply_overrides();
  [[noreturn]] void fail_undetected(const Weights& all) const;

  const detail::ModelComponent& find(std::string_view component) const {
    const auto found = components_.find(component);
    if (found == components_.end()) {
      std::vector<std::string> present;
      for (const auto& [name, value] : components_) present.push_back(name);
      fail("{}: has no component '{}'; it holds {}", path_.string(), component, detail::name_list(present));
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
  std::string kind_;
  bool folder_ = false;
  bool open_clip_ = false;
  std::map<std::string, detail::ModelComponent, std::less<>> components_;
};

inline void ModelFiles::open_component_folder(const std::string& name, const std::filesystem::path& folder) {
  detail::ModelComponent component;
  component.config = detail::read_json_file(folder / "config.json");
  auto [stored, file] = detail::folder_weights(folder, options_.variant, options_.weights);
  if (name == "text_encoder") {
    stored = detail::clip_text_weights(stored);
    if (!component.config.contains("_class_name")) {
      const auto classes = component.config.find("architectures");
      const bool named = classes != component.config.end() && classes->is_array() && !classes->empty();
      component.config["_class_name"] = named ? classes->at(0) : nlohmann::json("CLIPTextModel");
    }
  } else if (name == "vae") {
    stored = detail::kl_autoencoder_weights(stored);
  }
  component.weights = std::move(stored);
  component.source = std::filesystem::relative(file, path_).string();
  components_.emplace(name, std::move(component));
}

inline void ModelFiles::open_folder() {
  folder_ = true;
  const auto names = detail::listing(path_);
  const auto encoder = path_ / "taesd_encoder.safetensors";
  const auto decoder = path_ / "taesd_decoder.safetensors";
  if (std::filesystem::exists(encoder) && std::filesystem::exists(decoder)) {
    kind_ = "TAESD files";
    detail::ModelComponent vae;
    vae.weights = taesd_weights(encoder, decoder, options_.weights);
    vae.config = taesd_config(vae.weights, path_.string());
    vae.source = "taesd_encoder.safetensors and taesd_decoder.safetensors";
    components_.emplace("vae", std::move(vae));
    return;
  }
  kind_ = "model folder";
  for (const char* name : {"unet", "vae", "text_encoder"}) {
    if (std::filesystem::exists(path_ / name / "config.json")) {
      open_component_folder(name, path_ / name);
    } else {
      require(!std::filesystem::is_directory(path_ / name), "{}: expected a config.json, found {}",
              (path_ / name).string(), detail::name_list(detail::listing(path_ / name)));
    }
  }
  if (const auto scheduler = path_ / "scheduler" / "scheduler_config.json"; std::filesystem::exists(scheduler)) {
    components_["scheduler"].config = detail::read_json_file(scheduler);
  }
  if (!components_.empty()) return;

  if (std::filesystem::exists(path_ / "config.json")) {
    kind_ = "folder of one component";
    const auto config = detail::read_json_file(path_ / "config.json");
    if (detail::text_at(config, "model_type") == "clip") {
      kind_ = "folder of a CLIP";
      auto [stored, file] = detail::folder_weights(path_, options_.variant, options_.weights);
      const auto source = file.filename().string();
      components_["clip"] = {.config = config, .weights = detail::without_position_ids(stored), .source = source};
      components_["clip"].config["_class_name"] = "CLIPModel";
      components_["text_encoder"] = {
          .config = clip_text_section(config), .weights = detail::clip_text_weights(stored), .source = source};
      components_["text_encoder"].config["_class_name"] = "CLIPTextModel";
      return;
    }
    std::string class_name = detail::text_at(config, "_class_name");
    if (class_name.empty() && detail::text_at(config, "model_type").starts_with("clip")) class_name = "CLIPTextModel";
    const char* name = class_name == "UNet2DConditionModel"      ? "unet"
                       : class_name.starts_with("Autoencoder")   ? "vae"
                       : class_name.starts_with("CLIPTextModel") ? "text_encoder"
                                                                 : nullptr;
    require(name != nullptr,
            "{}: config.json has the _class_name '{}', expected UNet2DConditionModel, AutoencoderKL, AutoencoderTiny "
            "or CLIPTextModel",
            path_.string(), class_name);
    open_component_folder(name, path_);
    return;
  }
  std::string hint;
  for (const auto& name : names) {
    if (name.ends_with(".safetensors")) hint = fmt::format("; to open '{}', give the path of the file itself", name);
  }
  fail(
      "{}: cannot tell what model this is: looked for the folders 'unet', 'vae' and 'text_encoder' with a config.json "
      "each, for a config.json, and for taesd_encoder.safetensors; found {}{}",
      path_.string(), detail::name_list(names), hint);
}

inline void ModelFiles::open_single_file() {
  const auto extension = path_.extension().string();
  for (const std::string_view pickled : {".ckpt", ".bin", ".pt", ".pth"}) {
    require(extension != pickled,
            "{}: is a PyTorch pickle, which can run code when it is loaded, and is not read; convert it to safetensors",
            path_.string());
  }
  const auto where = path_.string();
  const auto file = SafetensorsFile::open(path_, options_.weights);
  const Weights all = weights_of(file);
  const auto unet_prefix = detail::ldm_unet_prefix(all);
  const auto vae_prefix = detail::ldm_vae_prefix(all);
  const auto text = detail::clip_text_weights(detail::without_prefix(all, "cond_stage_model.transformer."));
  const auto open_clip = detail::without_prefix(all, "cond_stage_model.model.");
  const bool foreign = std::any_of(all.begin(), all.end(), [](const auto& item) {
    return item.first.starts_with("conditioner.embedders.") || item.first.starts_with("control_model.");
  });
  if (foreign) fail_undetected(all);
  if (all.contains("visual.conv1.weight")) {
    kind_ = "OpenCLIP checkpoint";
    open_clip_ = true;
    const auto beside = path_.parent_path() / "open_clip_config.json";
    const auto described = std::filesystem::exists(beside) ? detail::read_json_file(beside) : nlohmann::json::object();
    components_.emplace("clip", detail::open_clip_model(all, described.value("model_cfg", described), where));
    return;
  }

  kind_ = "single-file checkpoint";
  if (unet_prefix != "-") {
    std::string source;
    const auto chosen = detail::choose_ldm_unet(all, unet_prefix, options_.prefer_ema, where, source);
    auto unet = detail::ldm_unet(chosen, where);
    unet.source = source;
    components_.emplace("unet", std::move(unet));
  }
  if (vae_prefix != "-") components_.emplace("vae", detail::ldm_vae(detail::without_prefix(all, vae_prefix), where));
  if (text.contains("text_model.embeddings.token_embedding.weight")) {
    components_["text_encoder"] = {
        .config = detail::clip_text_config(text, false, where), .weights = text, .source = {}};
  } else if (open_clip.contains("token_embedding.weight")) {
    open_clip_ = true;
    components_.emplace("text_encoder", detail::open_clip_text(open_clip, where));
  }
  if (components_.empty()) fail_undetected(all);
  if (!has("unet")) return;

  std::string prediction = options_.prediction_type;
  std::string source = "prediction type as asked for";
  if (prediction.empty()) {
    const auto stated = file.metadata().find("modelspec.prediction_type");
    const bool velocity = stated != file.metadata().end() && stated->second.starts_with("v");
    prediction = velocity ? "v_prediction" : "epsilon";
    source = stated != file.metadata().end() ? "prediction type from the file's metadata"
                                             : "prediction type assumed, no tensor tells it";
  }
  require(prediction == "epsilon" || prediction == "v_prediction",
          "prediction_type: expected 'epsilon' or 'v_prediction', found '{}'", prediction);
  const auto betas = all.find("betas");
  const bool counted = betas != all.end() && betas->second.shape.size() == 1;
  components_["scheduler"] = {.config = {{"_class_name", "EulerAncestralDiscreteScheduler"},
                                         {"num_train_timesteps", counted ? betas->second.shape[0] : 1000},
                                         {"beta_start", 0.00085},
                                         {"beta_end", 0.012},
                                         {"beta_schedule", "scaled_linear"},
                                         {"prediction_type", prediction},
                                         {"timestep_spacing", "leading"},
                                         {"steps_offset", 1}},
                              .weights = {},
                              .source = source};
}

inline void ModelFiles::fail_undetected(const Weights& all) const {
  struct Family {
    std::string_view part, name;
  };
  static constexpr Family families[] = {
      {"conditioner.embedders.", "Stable Diffusion XL"},
      {"control_model.", "a ControlNet"},
      {"joint_blocks.", "Stable Diffusion 3"},
      {"double_blocks.", "Flux"},
      {"lora_unet_", "a LoRA, which is no model of its own"},
      {".lora_down.", "a LoRA, which is no model of its own"},
      {".lora_A.", "a LoRA, which is no model of its own"},
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
    require(found == names.end(), "{}: is not a model that ip2p reads: the tensor '{}' is that of {}", path_.string(),
            found == names.end() ? std::string() : detail::printable(*found), family);
  }
  constexpr std::string_view unet_key = "model.diffusion_model.input_blocks.0.0.weight";
  constexpr std::string_view vae_key = "first_stage_model.encoder.down.0.block.0.conv2.weight";
  constexpr std::string_view text_key = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight";
  fail(
      "{}: cannot tell what model this is: looked among its {} tensors for '{}' (UNet{}), '{}' (autoencoder{}), and "
      "'{}' or 'cond_stage_model.model.token_embedding.weight' (text encoder{}); found {}",
      path_.string(), names.size(), unet_key, detail::nearest_names_clause(unet_key, names, 1), vae_key,
      detail::nearest_names_clause(vae_key, names, 1), text_key, detail::nearest_names_clause(text_key, names, 1),
      detail::name_list(names, 4));
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
  } catch (const Error& error) {
    fail("{}: expected an autoencoder in its place from '{}': {}", path_.string(), options_.vae.string(), error.what());
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
  components_.insert_or_assign("vae", std::move(vae));
}

inline void ModelFiles::apply_overrides() {
  require(options_.overrides.is_object(), "overrides: expected an object of component names, found {}",
          options_.overrides.type_name());
  for (const auto& [name, patch] : options_.overrides.items()) {
    static_cast<void>(find(name));
    require(patch.is_object(), "overrides: expected an object for '{}', found {}", name, patch.type_name());
    components_.at(name).config.merge_patch(patch);
  }
}

}  // namespace ip2p
