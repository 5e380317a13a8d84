#pragma once

/// \file
/// Measurements against the known answers of the small world: drawn pictures, generated pairs, editors.

#include <cstdint>
#include <filesystem>
#include <string>

#include "support/interrupt.hpp"
#include "support/run_record.hpp"

namespace small_world {

namespace fs = std::filesystem;

/// Options shared by all measurements.
struct MeasureSettings {
  fs::path scenes, clip, out;
  fs::path model, pairs;
  std::int64_t count = 64, steps = 20;
  double text_scale = 3.0, image_scale = 1.2;
  std::string sampler = "euler";
  std::uint64_t seed = 42;
  int threads = 0;
  bool change = false;
  example::OptionValues values;  ///< All options of the command, by name.
};

/// Draws a picture for each of some captions, half of them never trained on, and asks the CLIP which caption is whose;
/// the same for scenes of these captions.
int measure_drawings(const MeasureSettings& o, const example::Interrupt& interrupt);

/// How generated pairs compare with scenes of the same captions.
int measure_pairs(const MeasureSettings& o, const example::Interrupt& interrupt);

/// How an editor's results compare with the known answers of held-out pairs.
int measure_editor(const MeasureSettings& o, const example::Interrupt& interrupt);

}  // namespace small_world
