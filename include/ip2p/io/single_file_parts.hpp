#pragma once

/// \file
/// What a single file holds of a model: a latent-diffusion checkpoint or a part of one, or an OpenCLIP.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ldm_checkpoint.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/open_clip.hpp"
#include "ip2p/io/printable.hpp"
#include "ip2p/io/refuse_undetected.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/weight_file.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p::detail {

/// What a single file says about the network's prediction.
struct StatedPrediction {
  std::string type;       ///< "epsilon", "v_prediction", "sample", or `undetermined_prediction`.
  bool zero_snr = false;  ///< Trained with zero terminal SNR.
  std::string source;     ///< Where it is said, in words.
};

/// The prediction that `asked` names, or that marks and metadata of the file state. The shapes of Stable Diffusion 2
/// are those of two models, so that for one of 4 input channels nothing is assumed unless the number of training steps
/// or the file's name tells which it is. \param asked empty, "epsilon" or "v_prediction"
inline StatedPrediction stated_prediction(const std::filesystem::path& path, const WeightFile& file, const Weights& all,
                                          const nlohmann::json& unet, const std::string& asked) {
  StatedPrediction result;
  result.zero_snr = all.contains("ztsnr");
  if (!asked.empty()) {
    result.type = asked;
    result.source = "prediction type as asked for";
    return result;
  }
  if (all.contains("v_pred")) {
    result.type = "v_prediction";
    result.source = fmt::format("prediction type from the file's tensor v_pred{}",
                                result.zero_snr ? ", zero terminal SNR from ztsnr" : "");
    return result;
  }
  if (const auto stated = file.metadata.find("modelspec.prediction_type"); stated != file.metadata.end()) {
    const auto& word = stated->second;
    result.type = word.starts_with("v") ? "v_prediction" : word == "sample" ? "sample" : "epsilon";
    require(word.starts_with("v") || word == "sample" || word.starts_with("eps"),
            "{}: metadata modelspec.prediction_type: expected epsilon, v or sample, found '{}'", path.string(),
            printable(word));
    result.source = "prediction type from the file's metadata";
    return result;
  }
  result.type = "epsilon";
  result.source = "prediction type assumed, no tensor tells it";
  const auto number = [&](const char* key) {
    const auto found = unet.find(key);
    return found != unet.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
  };
  if (number("cross_attention_dim") != 1024 || number("in_channels") != 4) return result;
  const auto name = path.filename().string();
  const auto says = [&](std::string_view part) { return name.find(part) != std::string::npos; };
  if (says("768")) {
    result.type = "v_prediction";
    result.source = "prediction type of Stable Diffusion 2 for 768 pixels, as the file's name says";
  } else if (says("512") || says("base")) {
    result.source = "prediction type of Stable Diffusion 2 for 512 pixels, as the file's name says";
  } else if (const auto steps = all.find("global_step"); steps != all.end() && element_count({*steps}) == 1) {
    // The 512-pixel base of Stable Diffusion 2.1 was trained for 220,000 steps; the other models go on from there.
    const bool base = steps->second.read().to(at::kDouble).item<double>() == 220000;
    result.type = base ? "epsilon" : "v_prediction";
    result.source = "prediction type from the file's number of training steps";
  } else {
    result.type = undetermined_prediction;
    result.source = "prediction type unknown: pass epsilon (512 pixels) or v_prediction (768 pixels)";
  }
  return result;
}

/// Weights in 8 bits that are stored with a factor: "X.weight" is to be multiplied by "X.scale_weight". Without the
/// factors, and without the mark that says so.
inline Weights without_fp8_scales(const Weights& stored) {
  if (!stored.contains("scaled_fp8")) return stored;
  Weights result = stored;
  result.erase("scaled_fp8");
  std::erase_if(result, [](const auto& item) { return item.first.ends_with(".scale_input"); });
  constexpr std::string_view ending = ".scale_weight";
  for (const auto& [name, scale] : stored) {
    if (!name.ends_with(ending)) continue;
    result.erase(name);
    const auto weight = result.find(name.substr(0, name.size() - ending.size()) + ".weight");
    if (weight == result.end()) continue;
    require(element_count({{name, scale}}) == 1, "tensor '{}': expected one number, found {}", printable(name),
            shape_text(scale.shape));
    weight->second.dtype = at::kFloat;
    weight->second.read = [read = weight->second.read, factor = scale.read] {
      return read().to(at::kFloat).mul(factor().to(at::kFloat).item<float>());
    };
  }
  return result;
}

/// The parts of a single-file checkpoint, or of an OpenCLIP.
/// \param prediction_type "epsilon" or "v_prediction"; empty: what the file says, see `stated_prediction`
inline ModelParts single_file_parts(const std::filesystem::path& path, bool prefer_ema,
                                    const std::string& prediction_type, const SafetensorsOptions& weights) {
  ModelParts model;
  const auto where = path.string();
  const auto file = open_weight_file(path, weights);
  const Weights all = without_fp8_scales(file.weights);
  const auto unet_prefix = ldm_unet_prefix(all);
  const auto vae_prefix = ldm_vae_prefix(all);
  const auto text = clip_text_weights(without_prefix(all, "cond_stage_model.transformer."));
  const auto open_clip = without_prefix(all, "cond_stage_model.model.");
  const bool foreign = std::any_of(all.begin(), all.end(), [](const auto& item) {
    return item.first.starts_with("conditioner.embedders.") || item.first.starts_with("control_model.");
  });
  if (foreign) refuse_undetected(path, all);
  if (all.contains("visual.conv1.weight")) {
    model.kind = "OpenCLIP checkpoint";
    model.open_clip = true;
    const auto beside = path.parent_path() / "open_clip_config.json";
    const auto described = std::filesystem::exists(beside) ? read_json_file(beside) : nlohmann::json::object();
    model.components.emplace("clip", open_clip_model(all, described.value("model_cfg", described), where));
    return model;
  }

  model.kind = "single-file checkpoint";
  if (unet_prefix != "-") {
    std::string source;
    const auto chosen = choose_ldm_unet(all, unet_prefix, prefer_ema, where, source);
    auto unet = ldm_unet(chosen, where);
    unet.source = source;
    model.components.emplace("unet", std::move(unet));
  }
  if (vae_prefix != "-") model.components.emplace("vae", ldm_vae(without_prefix(all, vae_prefix), where));
  if (text.contains("text_model.embeddings.token_embedding.weight")) {
    model.components["text_encoder"] = {.config = clip_text_config(text, false, where), .weights = text, .source = {}};
  } else if (open_clip.contains("token_embedding.weight")) {
    model.open_clip = true;
    model.components.emplace("text_encoder", open_clip_text(open_clip, where));
  }
  if (model.components.empty()) refuse_undetected(path, all);
  if (!model.components.contains("unet")) return model;

  require(prediction_type.empty() || prediction_type == "epsilon" || prediction_type == "v_prediction",
          "prediction_type: expected 'epsilon' or 'v_prediction', found '{}'", prediction_type);
  const auto stated = stated_prediction(path, file, all, model.components["unet"].config, prediction_type);
  const auto betas = all.find("betas");
  const bool counted = betas != all.end() && betas->second.shape.size() == 1;
  auto& scheduler = model.components["scheduler"];
  scheduler.config = config_of(R"({"_class_name": "EulerAncestralDiscreteScheduler", "beta_start": 0.00085,
                                   "beta_end": 0.012, "beta_schedule": "scaled_linear",
                                   "timestep_spacing": "leading", "steps_offset": 1})",
                               {{"num_train_timesteps", counted ? betas->second.shape[0] : 1000}});
  scheduler.config["prediction_type"] = stated.type;
  if (stated.zero_snr) {
    scheduler.config["rescale_betas_zero_snr"] = true;
    scheduler.config["timestep_spacing"] = "trailing";  // the only one that begins at the noisiest timestep
  }
  scheduler.source = stated.source;
  return model;
}

}  // namespace ip2p::detail
