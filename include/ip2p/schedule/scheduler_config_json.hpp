#pragma once

/// \file
/// Reads and writes scheduler_config.json. Separate from scheduler_config.hpp so that only code that reads models has
/// to include a JSON parser.

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/config_keys.hpp"
#include "ip2p/io/json_field.hpp"
#include "ip2p/io/model_parts.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

namespace detail {

inline constexpr std::array beta_schedules{std::pair{std::string_view("linear"), BetaCurve::linear},
                                           std::pair{std::string_view("scaled_linear"), BetaCurve::scaled_linear},
                                           std::pair{std::string_view("squaredcos_cap_v2"), BetaCurve::squared_cosine}};
inline constexpr std::array prediction_types{std::pair{std::string_view("epsilon"), PredictionType::epsilon},
                                             std::pair{std::string_view("v_prediction"), PredictionType::v_prediction},
                                             std::pair{std::string_view("sample"), PredictionType::sample}};
inline constexpr std::array timestep_spacings{std::pair{std::string_view("linspace"), TimestepSpacing::linspace},
                                              std::pair{std::string_view("leading"), TimestepSpacing::leading},
                                              std::pair{std::string_view("trailing"), TimestepSpacing::trailing}};

/// The name of `value` among `choices`.
template <class Value, std::size_t N>
std::string_view name_of(Value value, const std::array<std::pair<std::string_view, Value>, N>& choices) {
  for (const auto& [name, meaning] : choices) {
    if (meaning == value) return name;
  }
  return "";
}

/// Sets `value` to the choice that json[key] names, if present. Throws `Error` listing the choices for other names.
template <class Value, std::size_t N>
void read_choice(const nlohmann::json& json, const char* key, Value& value, std::string_view where,
                 const std::array<std::pair<std::string_view, Value>, N>& choices) {
  std::string name;
  read_field(json, key, name, where);
  if (name.empty()) return;
  std::string known;
  for (const auto& [choice, meaning] : choices) {
    if (choice == name) {
      value = meaning;
      return;
    }
    known += (known.empty() ? "" : ", ") + std::string(choice);
  }
  throw_error("{}: {}: expected one of {}, found \"{}\"", where, key, known, name);
}

}  // namespace detail

/// Reads the content of a scheduler_config.json. Missing keys take the defaults of diffusers' Euler schedulers; note
/// that their betas (linear, 1e-4 ... 0.02) are not Stable Diffusion's. Keys that do not affect the noise levels or the
/// prediction are ignored (docs/reference/config-keys.md). `where` names the file in messages. Throws `Error` for wrong
/// types, unknown names, values that are not supported, and schedulers of other kinds of model (flow matching, EDM).
inline SchedulerConfig scheduler_config_from_json(const nlohmann::json& json, std::string_view where) {
  require(json.is_object(), "{}: expected a JSON object, found {}", where, json.type_name());
  const auto type = json.find("_class_name");
  require(
      type == json.end() || type->is_null() ||
          std::find(detail::scheduler_classes.begin(), detail::scheduler_classes.end(), *type) !=
              detail::scheduler_classes.end(),
      "{}: _class_name: expected a scheduler of Stable Diffusion, such as EulerDiscreteScheduler, found {}, which is "
      "not supported",
      where, type == json.end() ? std::string() : detail::json_text(*type));
  detail::require_supported(json, detail::scheduler_keys, where);
  SchedulerConfig config;
  config.noise.beta_start = 0.0001;
  config.noise.beta_end = 0.02;
  config.noise.curve = BetaCurve::linear;

  detail::read_field(json, "num_train_timesteps", config.noise.timesteps, where);
  detail::read_field(json, "beta_start", config.noise.beta_start, where);
  detail::read_field(json, "beta_end", config.noise.beta_end, where);
  detail::read_field(json, "rescale_betas_zero_snr", config.noise.zero_terminal_snr, where);
  detail::read_field(json, "steps_offset", config.steps_offset, where);
  detail::read_field(json, "use_karras_sigmas", config.use_karras_sigmas, where);
  detail::read_field(json, "use_exponential_sigmas", config.use_exponential_sigmas, where);
  detail::read_choice(json, "beta_schedule", config.noise.curve, where, detail::beta_schedules);
  const auto prediction = json.find("prediction_type");
  if (prediction != json.end() && *prediction == detail::undetermined_prediction) {
    throw SettingNeeded(std::string(where) +
                            ": cannot tell what this Stable Diffusion 2 model predicts, because its tensors have "
                            "the same shapes in both kinds",
                        "prediction_type", "(epsilon for the one of 512 pixels, v_prediction for that of 768)");
  }
  detail::read_choice(json, "prediction_type", config.prediction, where, detail::prediction_types);
  detail::read_choice(json, "timestep_spacing", config.spacing, where, detail::timestep_spacings);

  const auto betas = json.find("trained_betas");  // an empty list is none
  if (betas == json.end() || !betas->is_array() || !betas->empty()) {
    detail::read_field(json, "trained_betas", config.noise.betas, where);
  }
  require(!config.use_karras_sigmas || !config.use_exponential_sigmas,
          "{}: use_karras_sigmas: expected false beside use_exponential_sigmas, found true", where);
  require(config.noise.timesteps >= 2, "{}: num_train_timesteps: expected at least 2, found {}", where,
          config.noise.timesteps);
  require(config.steps_offset >= 0, "{}: steps_offset: expected a number >= 0, found {}", where, config.steps_offset);
  return config;
}

/// The inverse of `scheduler_config_from_json`, except that `single_precision` is not stored, because it is not a
/// property of the model. The scheduler class written is the one InstructPix2Pix was published with, or diffusers'
/// Euler if that class lacks an option in use.
inline nlohmann::json scheduler_config_to_json(const SchedulerConfig& config) {
  const bool plain =
      config.prediction != PredictionType::sample && !config.use_karras_sigmas && !config.use_exponential_sigmas;
  nlohmann::json json{{"_class_name", plain ? "EulerAncestralDiscreteScheduler" : "EulerDiscreteScheduler"},
                      {"num_train_timesteps", config.noise.timesteps},
                      {"beta_start", config.noise.beta_start},
                      {"beta_end", config.noise.beta_end},
                      {"beta_schedule", detail::name_of(config.noise.curve, detail::beta_schedules)},
                      {"prediction_type", detail::name_of(config.prediction, detail::prediction_types)},
                      {"timestep_spacing", detail::name_of(config.spacing, detail::timestep_spacings)},
                      {"steps_offset", config.steps_offset},
                      {"rescale_betas_zero_snr", config.noise.zero_terminal_snr}};
  if (!plain) json["use_karras_sigmas"] = config.use_karras_sigmas;
  if (config.use_exponential_sigmas) json["use_exponential_sigmas"] = true;
  if (!config.noise.betas.empty()) json["trained_betas"] = config.noise.betas;
  return json;
}

}  // namespace ip2p
