#pragma once

/// \file
/// The two models that the data engine needs and the paper takes ready-made: a CLIP and a text-to-image model.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "support/interrupt.hpp"
#include "support/run_record.hpp"

namespace small_world {

namespace fs = std::filesystem;

/// Options shared by both trainings.
struct TrainingSettings {
  fs::path scenes, out;
  std::int64_t steps = 1000, batch = 32;
  double rate = 1e-3;
  std::uint64_t seed = 0;
  int threads = 0;
  std::int64_t width = 96;  ///< Of the text, and of the vision tower.
  bool change = false;
  example::OptionValues values;  ///< All options of the command, by name.
};

struct ClipSettings : TrainingSettings {
  fs::path tokenizer;
  std::int64_t patch = 8, text_layers = 2, vision_layers = 3;
};

struct TextToImageSettings : TrainingSettings {
  fs::path clip, codec;
  std::vector<std::int64_t> channels{64, 128};
  double drop_text = 0.1;
};

/// Trains a CLIP on captioned scenes, writes it to out/clip and out/report.json.
int train_clip(const ClipSettings& o, const example::Interrupt& interrupt);

/// Trains a latent diffusion model on captioned scenes and writes it to out/model. As in Stable Diffusion, the text
/// encoder is CLIP's text tower. It was trained for minutes only and knows little, so it is trained further here.
int train_text_to_image(const TextToImageSettings& o, const example::Interrupt& interrupt);

}  // namespace small_world
