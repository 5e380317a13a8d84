#pragma once

/// \file
/// The command line of edit_image.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/command_line.hpp"
#include "support/picture_options.hpp"

namespace edit_image {

/// The arguments, checked without opening any file but that of --like.
struct Options {
  example::ModelOptions model;
  example::RunOptions run;  ///< Its `out` is not used.
  example::PictureOptions picture;
  std::vector<std::string> images, prompts, grid;
  std::string out, fit;
  std::filesystem::path latents, save_latents, compare, like;
  std::int64_t count = 1, batch = 1, preview = 0;
  bool full_size = false, keep_alpha = false, overwrite = false, no_settings = false;
  bool comparing = false;  ///< --compare was given; an empty `compare` then means the default name.

  /// Whether --out is standard output.
  [[nodiscard]] bool to_standard_output() const { return out == "-"; }
};

/// Whether `out` names one picture, rather than a folder or a pattern.
bool names_one(const std::string& out);

/// Adds the options to `app`; `app.parse` then fills `o`.
void add_options(CLI::App& app, Options& o);

}  // namespace edit_image
