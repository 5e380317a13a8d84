#pragma once

/// \file
/// Runs that show what the result looks like so far.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "ip2p/core/any_noise.hpp"
#include "ip2p/pipeline/open_model.hpp"

namespace edit_image {

/// As `edit.run`, and every `every` steps `show` gets each picture of the batch as a linear map decodes it from the
/// denoiser's estimate, at the size of the photographs (`ip2p::LinearPreview`).
ip2p::PipelineResult run_with_previews(const ip2p::Editor& edit, std::span<const ip2p::Image> photos,
                                       const std::vector<std::string>& prompts, const ip2p::RunSettings& settings,
                                       ip2p::AnyNoise& noise, std::int64_t every,
                                       const std::function<void(std::size_t, ip2p::Image)>& show);

}  // namespace edit_image
