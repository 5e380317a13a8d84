#pragma once

/// \file
/// Options of make_pairs, and which of them the set depends on.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "support/command_line.hpp"

namespace make_pairs {

struct Options {
  example::ModelOptions model;
  std::filesystem::path triplets, clip, out, sheets;
  std::int64_t samples = 100, batch = 4, steps = 100, side = 512, sheet_every = 1;
  std::size_t keep = 4;
  std::string preset = "paper", schedule, noise = "counter";
  bool no_filter = false, no_self_replacement = false, change = false;
  std::optional<double> image, pixel_change;
  double caption = 0.2, direction = 0.2, lease = 120, patience = 3600;
  double text_scale_from = 7.5, text_scale_to = 15;
  std::uint64_t seed = 42;

  /// Least image similarity: .75 in the paper, .7 in the released program.
  [[nodiscard]] double least_image() const { return image.value_or(preset == "released" ? 0.7 : 0.75); }

  /// Least change in levels of 255. The released program has no such test.
  [[nodiscard]] double least_change() const { return pixel_change.value_or(preset == "released" ? 0.0 : 0.1); }

  /// The options that decide which pairs are drawn and kept, without models and triplets. Batches, devices and threads
  /// only change rounding.
  [[nodiscard]] nlohmann::json settings() const;
};

/// Adds the options to `app`; parsing then fills `o`.
void add_options(CLI::App& app, Options& o);

}  // namespace make_pairs
