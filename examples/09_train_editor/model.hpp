#pragma once

/// \file
/// The model that a run makes.

#include <filesystem>

#include "ip2p/io/model_files.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/unet/unet.hpp"

namespace train_editor {

/// Writes a folder that other programs open: the trained UNet, with everything else of the model that it began from.
void write_model(const std::filesystem::path& folder, const ip2p::ModelFiles& files, const ip2p::UNet& unet,
                 const ip2p::SchedulerConfig& scheduler);

}  // namespace train_editor
