#pragma once

/// \file
/// Reader of scheduler_config.json; kept apart so that only programs that read models include a JSON parser.

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

namespace detail {

/// Overwrites `value` by json[key] where the key is present and not null; other types throw `Error`.
template <class Value>
void read_field(const nlohmann::json& json, const char* key, Value& value, std::string_view where) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return;
  bool fits = false;
  std::string_view expected;
  if constexpr (std::is_same_v<Value, bool>) {
    fits = found->is_boolean();
    expected = "true or false";
  } else if constexpr (std::is_integral_v<Value>) {
    fits = found->is_number_integer();
    expected = "a whole number";
  } else if constexpr (std::is_floating_point_v<Value>) {
    fits = found->is_number();
    expected = "a number";
  } else if constexpr (std::is_same_v<Value, std::string>) {
    fits = found->is_string();
    expected = "a string";
  } else {
    fits = found->is_array() && !found->empty();
    for (const auto& entry : *found) fits = fits && entry.is_number();
    expected = "a list of numbers";
  }
  require(fits, "{}: {}: expected {}, found {}", where, key, expected, found->dump().substr(0, 60));
  value = found->template get<Value>();
}

/// Overwrites `value` by the choice that json[key] names; unknown names throw `Error` and list the known ones.
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
  fail("{}: {}: expected one of {}, found \"{}\"", where, key, known, name);
}

}  // namespace detail

/// Reads the content of a scheduler_config.json. Absent keys take the defaults of diffusers' Euler schedulers, which
/// for the betas are not Stable Diffusion's (linear, 1e-4 ... 0.02). Keys that change no noise level are ignored.
/// `where` names the file in messages. Throws `Error` for wrong types, unknown names and timesteps that are not
/// discrete.
inline SchedulerConfig scheduler_config_from_json(const nlohmann::json& json, std::string_view where) {
  require(json.is_object(), "{}: expected a JSON object, found {}", where, json.type_name());
  SchedulerConfig config;
  config.noise.beta_start = 0.0001;
  config.noise.beta_end = 0.02;
  config.noise.curve = BetaCurve::linear;

  detail::read_field(json, "num_train_timesteps", config.noise.timesteps, where);
  detail::read_field(json, "beta_start", config.noise.beta_start, where);
  detail::read_field(json, "beta_end", config.noise.beta_end, where);
  detail::read_field(json, "trained_betas", config.noise.betas, where);
  detail::read_field(json, "rescale_betas_zero_snr", config.noise.zero_terminal_snr, where);
  detail::read_field(json, "steps_offset", config.steps_offset, where);
  detail::read_field(json, "use_karras_sigmas", config.use_karras_sigmas, where);
  detail::read_choice(json, "beta_schedule", config.noise.curve, where,
                      std::array{std::pair{std::string_view("linear"), BetaCurve::linear},
                                 std::pair{std::string_view("scaled_linear"), BetaCurve::scaled_linear},
                                 std::pair{std::string_view("squaredcos_cap_v2"), BetaCurve::squared_cosine}});
  detail::read_choice(json, "prediction_type", config.prediction, where,
                      std::array{std::pair{std::string_view("epsilon"), PredictionType::epsilon},
                                 std::pair{std::string_view("v_prediction"), PredictionType::v_prediction},
                                 std::pair{std::string_view("sample"), PredictionType::sample}});
  detail::read_choice(json, "timestep_spacing", config.spacing, where,
                      std::array{std::pair{std::string_view("linspace"), TimestepSpacing::linspace},
                                 std::pair{std::string_view("leading"), TimestepSpacing::leading},
                                 std::pair{std::string_view("trailing"), TimestepSpacing::trailing}});

  std::string timestep_type = "discrete";
  detail::read_field(json, "timestep_type", timestep_type, where);
  require(timestep_type == "discrete", "{}: timestep_type: expected \"discrete\", found \"{}\"", where, timestep_type);
  require(config.noise.timesteps >= 2, "{}: num_train_timesteps: expected at least 2, found {}", where,
          config.noise.timesteps);
  require(config.steps_offset >= 0, "{}: steps_offset: expected a number >= 0, found {}", where, config.steps_offset);
  return config;
}

}  // namespace ip2p
