#pragma once

/// \file
/// The command line of edit_image.

#include <filesystem>
#include <string>

#include "support/command_line.hpp"
#include "support/picture_options.hpp"

namespace edit_image {

/// The arguments, checked without opening any file.
struct Options {
  example::ModelOptions model;
  example::RunOptions run;
  example::PictureOptions picture;
  std::filesystem::path image, latents, save_latents, compare;
  std::string prompt;
  bool full_size = false, keep_alpha = false;
};

/// Adds the options to `app`; `app.parse` then fills `o`.
void add_options(CLI::App& app, Options& o);

}  // namespace edit_image
