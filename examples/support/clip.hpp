#pragma once

/// \file
/// Opens the CLIP models that programs measure with.

#include <c10/core/Device.h>

#include <filesystem>

#include "ip2p/io/model_files.hpp"
#include "ip2p/vision/clip.hpp"

namespace example {

/// The files of a CLIP. \param path a folder, an OpenCLIP checkpoint or a name on the Hub
/// \param tokenizer folder, if the model has none
ip2p::ModelFiles clip_files(const std::filesystem::path& path, const std::filesystem::path& tokenizer = {});

/// A CLIP for inference. It computes in fp32, whatever the editors compute in: similarities differ in their third
/// decimal. \param path a folder or an OpenCLIP checkpoint  \param tokenizer folder, if the model has none
ip2p::Clip open_clip(const std::filesystem::path& path, const std::filesystem::path& tokenizer = {},
                     at::Device device = at::kCPU);

/// The same of files that are open already.
ip2p::Clip open_clip(const ip2p::ModelFiles& files, at::Device device = at::kCPU);

}  // namespace example
