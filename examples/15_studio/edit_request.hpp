#pragma once

/// \file
/// What a client asks for: the settings of a job, and the results that they make.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "limits.hpp"
#include "model_info.hpp"

namespace studio {

/// One result of a job.
struct Cell {
  std::uint64_t seed = 0;
  double text_scale = 0, image_scale = 0;

  friend bool operator==(const Cell&, const Cell&) = default;
};

/// The settings of a job, complete.
struct EditRequest {
  std::string instruction = {}, negative = {};
  double text_scale = 0, image_scale = 0;
  std::int64_t steps = 0;
  std::uint64_t seed = 42;
  std::string sampler = {};
  std::string schedule = {};  ///< Empty for the model's.
  std::int64_t count = 1;
  std::vector<double> text_scales = {}, image_scales = {};  ///< Of a sweep; both empty without one.
  bool full_size = false;
  std::int64_t preview_every = 0;  ///< 0: no previews.

  /// The results: one a seed, or those of a sweep, row by row.
  [[nodiscard]] std::vector<Cell> cells() const;
};

/// Reads settings. What is not given is as the model recommends. \param text JSON  \throws Fault
EditRequest parse_request(std::string_view text, const ModelInfo& model, const Limits& limits);

/// The same of JSON that was parsed.
EditRequest request_of(const nlohmann::json& settings, const ModelInfo& model, const Limits& limits);

/// Settings by the names that requests have for them, of those of edit_image. What requests do not have is left out.
/// \param options "options" of a picture's settings
nlohmann::ordered_json request_of_options(const nlohmann::ordered_json& options);

}  // namespace studio
