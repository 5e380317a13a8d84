#pragma once

/// \file
/// What is told about the model that is served.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "ip2p/io/model_advice.hpp"
#include "limits.hpp"

namespace studio {

/// The model, and what is used where a request leaves something out.
struct ModelInfo {
  std::string name = {}, device = {}, dtype = {};
  std::int64_t downscale = 8, channels = 4;
  double text_scale = 7.5, image_scale = 1.5;
  std::int64_t steps = 100;
  std::string sampler = {}, schedule = {};
  std::optional<std::int64_t> resolution = {};
  ip2p::ModelAdvice advice = {};
  std::vector<std::string> samplers = {}, schedules = {};
};

/// As `GET /api/model` has it. \param batch results that may be computed together
nlohmann::ordered_json json_of(const ModelInfo& model, const Limits& limits, std::int64_t batch);

}  // namespace studio
