#pragma once

/// \file
/// What a single file holds of a model: a latent-diffusion checkpoint or a part of one, or an OpenCLIP.

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/ldm_checkpoint.hpp"
#include "ip2p/io/model_folder.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/io/open_clip.hpp"
#include "ip2p/io/refuse_undetected.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/weight_file.hpp"
#include "ip2p/io/weights.hpp"

namespace ip2p::detail {

/// The parts of a single-file checkpoint, or of an OpenCLIP.
/// \param prediction_type "epsilon" or "v_prediction"; empty: what the file's metadata says, or else epsilon
inline ModelParts single_file_parts(const std::filesystem::path& path, bool prefer_ema,
                                    const std::string& prediction_type, const SafetensorsOptions& weights) {
  ModelParts model;
  const auto where = path.string();
  const auto file = open_weight_file(path, weights);
  const Weights& all = file.weights;
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

  std::string prediction = prediction_type;
  std::string source = "prediction type as asked for";
  if (prediction.empty()) {
    const auto stated = file.metadata.find("modelspec.prediction_type");
    const bool velocity = stated != file.metadata.end() && stated->second.starts_with("v");
    prediction = velocity ? "v_prediction" : "epsilon";
    source = stated != file.metadata.end() ? "prediction type from the file's metadata"
                                           : "prediction type assumed, no tensor tells it";
  }
  require(prediction == "epsilon" || prediction == "v_prediction",
          "prediction_type: expected 'epsilon' or 'v_prediction', found '{}'", prediction);
  const auto betas = all.find("betas");
  const bool counted = betas != all.end() && betas->second.shape.size() == 1;
  auto& scheduler = model.components["scheduler"];
  scheduler.config = config_of(R"({"_class_name": "EulerAncestralDiscreteScheduler", "beta_start": 0.00085,
                                   "beta_end": 0.012, "beta_schedule": "scaled_linear",
                                   "timestep_spacing": "leading", "steps_offset": 1})",
                               {{"num_train_timesteps", counted ? betas->second.shape[0] : 1000}});
  scheduler.config["prediction_type"] = prediction;
  scheduler.source = source;
  return model;
}

}  // namespace ip2p::detail
