#pragma once

/// \file
/// Writes trained models in formats that other software reads: diffusers folders and single-file checkpoints.

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/copy_file.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/ldm_checkpoint.hpp"
#include "ip2p/io/ldm_inverse_keys.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/unet/unet.hpp"

namespace ip2p {

/// What `save_model` and `save_single_file` write besides the weights.
struct ExportOptions {
  at::ScalarType dtype = at::kHalf;   ///< Of the weights on disk: fp32, fp16 or bf16.
  SchedulerConfig scheduler{};        ///< Noise schedule and prediction type of the model.
  std::filesystem::path tokenizer{};  ///< Folder whose files are copied to `tokenizer`; empty copies none.
  nlohmann::json settings = nullptr;  ///< Returned by `ModelFiles::settings()`; null writes none.
};

/// Which of a run's weights to use.
enum class TrainedWeights {
  average,  ///< The moving average, which gives better edits.
  last      ///< Those after the last update, to continue training.
};

/// Writes `json`, indented by two spaces, atomically.
inline void write_json(const std::filesystem::path& path, const nlohmann::json& json) {
  const auto text = json.dump(2) + "\n";
  write_file_atomically(path, std::as_bytes(std::span(text)));
}

/// Loads the weights that a run saved into `model`; on error nothing changes.
/// \param name the model's prefix in the run's `Parameters`; usually the component's name
/// \throws Error when the checkpoint lacks a parameter of the model or has one of another shape
template <class Model>
void load_trained(const Model& model, const Checkpoint& checkpoint, TrainedWeights which = TrainedWeights::average,
                  const std::string& name = Model::component) {
  const auto prefix = fmt::format("{}/{}.", which == TrainedWeights::average ? "average" : "weights", name);
  const auto parameters = model.module().named_parameters();
  for (const auto& [parameter, tensor] : parameters) {
    const auto found = checkpoint.tensors.find(prefix + parameter);
    require(found != checkpoint.tensors.end(), "checkpoint of step {}: no tensor '{}'", checkpoint.step,
            prefix + parameter);
    const auto expected = detail::plain_shape(tensor);
    require(found->second.sizes() == expected, "checkpoint of step {}: tensor '{}': expected {}, found {}",
            checkpoint.step, prefix + parameter, shape_text(expected), shape_text(found->second.sizes()));
  }
  const at::NoGradGuard no_grad;
  const detail::PlainForNow plain(model.module());
  for (const auto& [parameter, tensor] : model.module().named_parameters()) {
    tensor.copy_(checkpoint.tensors.at(prefix + parameter));
  }
}

namespace detail {

/// A model's weights under the names of the published files, on the CPU, in `dtype`.
template <class Model>
std::map<std::string, at::Tensor> exported(const Model& model, at::ScalarType dtype) {
  require(dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16,
          "export: dtype: expected fp32, fp16 or bf16, found {}", at::toString(dtype));
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, tensor] : state_of(model.module())) {
    const auto converted = tensor.to(at::kCPU, dtype).contiguous();
    require(converted.to(at::kFloat).isfinite().all().template item<bool>(),
            "{}: tensor '{}': expected values that {} can hold", Model::component, name, at::toString(dtype));
    weights.emplace(name, converted);
  }
  return weights;
}

/// Wraps tensors in memory as file entries.
inline Weights entries_of(const std::map<std::string, at::Tensor>& tensors) {
  Weights weights;
  for (const auto& [name, tensor] : tensors) {
    weights.emplace(name,
                    WeightEntry{tensor.sizes().vec(), tensor.scalar_type(), [tensor = tensor] { return tensor; }});
  }
  return weights;
}

/// Refuses settings that a single file cannot express: its readers infer shapes and assume the rest.
inline void require_told_by_shapes(const std::string& component, const nlohmann::json& model,
                                   const nlohmann::json& reader) {
  for (const auto& [key, value] : model.items()) {
    const auto assumed = reader.find(key);
    if (assumed == reader.end() || *assumed == value) continue;
    throw_error(
        "single-file checkpoint: {}: {}: expected {}, which readers of such a file assume, found {}; write a folder "
        "with "
        "save_model instead",
        component, key, assumed->dump(), value.dump());
  }
}

}  // namespace detail

/// Writes one model as `folder/<component>/{config.json, weights}` under the names of the published files.
///
/// \param model `UNet`, `KlAutoencoder`, `ClipTextModel`, `ClipModel` or another handle with `component`, `config()`
/// and `module()` \param dtype of the weights on disk; fp16 and bf16 halve the size \throws Error on I/O failure, and
/// when a weight does not fit the range of `dtype`
template <class Model>
void save_component(const Model& model, const std::filesystem::path& folder, at::ScalarType dtype = at::kHalf) {
  const std::string component = Model::component;
  const auto weights = detail::exported(model, dtype);
  make_folder(folder / component);
  const bool transformers = component == "text_encoder" || component == "clip";
  write_safetensors(folder / component / (transformers ? "model.safetensors" : "diffusion_pytorch_model.safetensors"),
                    weights, {{"format", "pt"}});
  write_json(folder / component / "config.json", model.config().to_json());
}

/// Writes everything but the components that `ModelFiles` and diffusers need in a model folder: model_index.json, the
/// scheduler and the tokenizer. \param in_channels of the UNet; determines the pipeline class
/// \param codec class of the codec in diffusers
inline void save_model_index(const std::filesystem::path& folder, std::int64_t in_channels,
                             const ExportOptions& options = {}, const std::string& codec = "AutoencoderKL") {
  namespace fs = std::filesystem;
  const auto scheduler = scheduler_config_to_json(options.scheduler);
  nlohmann::json index{{"_class_name", in_channels == 4   ? "StableDiffusionPipeline"
                                       : in_channels == 9 ? "StableDiffusionInpaintPipeline"
                                                          : "StableDiffusionInstructPix2PixPipeline"},
                       {"feature_extractor", {nullptr, nullptr}},
                       {"requires_safety_checker", false},
                       {"safety_checker", {nullptr, nullptr}},
                       {"scheduler", {"diffusers", scheduler.at("_class_name")}},
                       {"text_encoder", {"transformers", "CLIPTextModel"}},
                       {"tokenizer", {"transformers", "CLIPTokenizer"}},
                       {"unet", {"diffusers", "UNet2DConditionModel"}},
                       {"vae", {"diffusers", codec}}};
  if (!options.settings.is_null()) index["_ip2p_settings"] = options.settings;
  try {
    make_folder(folder / "scheduler");
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler);
    if (!options.tokenizer.empty()) {
      make_folder(folder / "tokenizer");
      for (const auto& entry : detail::folder_entries(options.tokenizer)) {
        if (!entry.is_regular_file()) continue;
        copy_file_atomically(entry.path(), folder / "tokenizer" / entry.path().filename());
      }
    }
    write_json(folder / "model_index.json", index);
  } catch (const fs::filesystem_error& error) {
    throw_error("cannot write the model '{}': {}", folder.string(), error.code().message());
  }
}

/// Writes a model as a diffusers folder. model_index.json is written last, so a folder that has it is complete.
/// \param codec `KlAutoencoder`, `TinyAutoencoder` or `DcAutoencoder`
/// \throws Error on I/O failure, and when a weight does not fit the range of the dtype
template <class Codec>
void save_model(const std::filesystem::path& folder, const UNet& unet, const Codec& codec, const ClipTextModel& text,
                const ExportOptions& options = {}) {
  std::error_code ignored;
  std::filesystem::remove(folder / "model_index.json", ignored);
  save_component(unet, folder, options.dtype);
  save_component(codec, folder, options.dtype);
  save_component(text, folder, options.dtype);
  save_model_index(folder, unet.in_channels(), options, codec.config().to_json().at("_class_name"));
}

/// Writes a model as one safetensors file under the names of Stable Diffusion 1.x (`model.diffusion_model`,
/// `first_stage_model`, `cond_stage_model.transformer`). Such a file holds no configuration and no tokenizer.
/// \throws Error on I/O failure, when a weight does not fit the range of the dtype, and when the model differs from
///   Stable Diffusion in something that shapes do not show: heads, norm groups, activation, scaling factor, noise
inline void save_single_file(const std::filesystem::path& path, const UNet& unet, const KlAutoencoder& codec,
                             const ClipTextModel& text, const ExportOptions& options = {}) {
  const auto where = path.string();
  std::map<std::string, at::Tensor> part, all;
  const auto add = [&](const std::string& prefix) {
    for (const auto& [name, tensor] : part) all.emplace(prefix + name, tensor);
    part.clear();
  };

  const auto& shape = unet.config();
  for (const auto& [name, tensor] : detail::exported(unet, options.dtype)) {
    part.emplace(
        detail::unet_ldm_key(name, shape.layers_per_block, static_cast<std::int64_t>(shape.block_out_channels.size()),
                             shape.cross_attention),
        tensor);
  }
  const auto as_unet = UNetConfig::from_json(detail::ldm_unet_config(detail::entries_of(part), where), where);
  detail::require_told_by_shapes("unet", shape.to_json(), as_unet.to_json());
  add("model.diffusion_model.");

  const auto levels = static_cast<std::int64_t>(codec.config().block_out_channels.size());
  for (const auto& [name, tensor] : detail::exported(codec, options.dtype)) {
    // In that format the attention's projections are 1x1 convolutions.
    const bool matrix = tensor.dim() == 2 && name.find("attentions.0.to_") != std::string::npos;
    part.emplace(detail::vae_ldm_key(name, levels), matrix ? tensor.unsqueeze(-1).unsqueeze(-1) : tensor);
  }
  const auto as_codec = KlAutoencoderConfig::from_json(detail::ldm_vae(detail::entries_of(part), where).config, where);
  detail::require_told_by_shapes("vae", codec.config().to_json(), as_codec.to_json());
  add("first_stage_model.");

  part = detail::exported(text, options.dtype);
  const auto as_text =
      ClipTextConfig::from_json(detail::clip_text_config(detail::entries_of(part), false, where), where);
  detail::require_told_by_shapes("text_encoder", text.config().to_json(), as_text.to_json());
  add("cond_stage_model.transformer.");

  auto scheduler = scheduler_config_to_json(options.scheduler);
  auto assumed = scheduler_config_to_json({});
  for (const char* free : {"timestep_spacing", "steps_offset", "_class_name"}) scheduler.erase(free);
  const bool velocity = options.scheduler.prediction == PredictionType::v_prediction;
  if (velocity) scheduler.erase("prediction_type");  // recorded in the metadata instead
  assumed["trained_betas"] = nullptr;
  assumed["use_karras_sigmas"] = assumed["use_exponential_sigmas"] = false;
  detail::require_told_by_shapes("scheduler", scheduler, assumed);
  write_safetensors(path, all, {{"format", "pt"}, {"modelspec.prediction_type", velocity ? "v" : "epsilon"}});
}

}  // namespace ip2p
