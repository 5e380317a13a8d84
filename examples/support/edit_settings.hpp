#pragma once

/// \file
/// What a picture of an editor says about how it was made, in the words of edit_image's options.

#include <cstdint>
#include <optional>
#include <string>

#include "command_line.hpp"
#include "ip2p/pipeline/fitted_photo.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "picture_options.hpp"
#include "picture_settings.hpp"

namespace example {

/// An edit, as it was carried out.
struct EditMade {
  const ModelOptions& model_options;
  const ip2p::OpenedModel& model;
  const ip2p::Editor& edit;  ///< With the run's sampler and scales.
  const RunOptions& run;     ///< Steps, negative prompt, schedule, noise, numerics and quality count.
  const PictureOptions& picture;
  std::optional<std::int64_t> resolution;  ///< At which photographs are edited; unset for their own.
  ip2p::Fit fit;
  bool full_size = false, keep_alpha = false;
};

/// The settings that --like reads.
Settings edit_settings(const EditMade& made, const std::string& prompt, std::uint64_t seed);

}  // namespace example
