#pragma once

/// \file
/// Warnings where a run goes beyond what its model says that it was trained for.

#include <optional>
#include <string>

#include "ip2p/io/model_advice.hpp"
#include "ip2p/pipeline/open_model.hpp"

namespace example {

/// What the model's folder says of its limits.
ip2p::ModelAdvice advice_of(const ip2p::OpenedModel& model);

/// What is to be said of scales of guidance, a sentence; empty for scales within the ranges, and where none is known.
/// \param image_scale where the guidance has one
std::string about_scales(const ip2p::ModelAdvice& advice, std::optional<double> image_scale, double text_scale);

/// What is to be said of an instruction; empty for one that the model may know.
std::string about_instruction(const ip2p::ModelAdvice& advice, const std::string& instruction);

/// Prints `sentence` as a warning, if there is one.
void warn(const std::string& sentence);

}  // namespace example
