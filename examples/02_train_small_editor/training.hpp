#pragma once

/// \file
/// The three trainings: settings, what both report, and their entry points.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ip2p/io/image.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/training_options.hpp"
#include "photographs.hpp"
#include "support/contents.hpp"
#include "support/interrupt.hpp"
#include "support/program.hpp"
#include "support/progress_bar.hpp"
#include "support/run_record.hpp"

namespace small_editor {

/// Settings that every subcommand shares.
struct Settings {
  std::filesystem::path photographs;
  std::filesystem::path work = "small-editor-training";
  std::int64_t picture = 256;
  std::int64_t shards = 2;
  std::uint64_t seed = 7;
  bool change = false;
  example::OptionValues values;  ///< All options of the command, by name.
};

/// What all trainings have.
struct LearningSettings {
  std::int64_t steps, batch;
  double rate;  ///< At its peak.
  std::string compute = "fp32";
};

/// Of the autoencoder's training; its batch is of crops.
struct AutoencoderSettings : LearningSettings {
  AutoencoderSettings() : LearningSettings{7000, 4, 4e-4} {}
  std::vector<std::int64_t> channels{40, 40, 80, 160};
  std::int64_t latent_channels = 32;
  std::int64_t side = 96;  ///< Of the crops, in pixels.
  std::vector<std::int64_t> encoder_blocks{0, 1, 2, 2}, decoder_blocks{0, 1, 3, 2};
};

/// Of the text encoder's and the UNet's training; its batch is of whole pictures.
struct EditorSettings : LearningSettings {
  EditorSettings() : LearningSettings{4000, 4, 6e-4} {}
  std::vector<std::int64_t> channels{80, 96, 128};
  std::filesystem::path tokenizer = "models/clip-tokenizer";
  std::int64_t coarse_steps = 3100;
  std::int64_t coarse_side = 64;  ///< Of the crops of the coarse updates, in pixels.
  std::int64_t crops = 60;        ///< Whole-picture crops.
  std::int64_t varied = 8;
  std::int64_t unedited = 3;
  std::filesystem::path start;  ///< Folder of an editor to start from; empty: fresh weights.
};

/// Of the decoder's fitting to an editor; its batch is of windows of results.
struct DecoderSettings : LearningSettings {
  DecoderSettings() : LearningSettings{6500, 6, 4e-4} {}
  std::filesystem::path model;  ///< Folder of the editor.
  std::int64_t side = 96;       ///< Of the windows, in pixels.
  std::int64_t crops = 168;     ///< Edited whole-picture crops kept in memory.
  double sharpness = 0.3;       ///< `DecoderLoss::sharpness`
};

/// What `take` makes of each photograph. \throws Cancelled
template <class Take>
std::vector<at::Tensor> read_photographs(const std::vector<std::filesystem::path>& paths,
                                         const example::Interrupt& interrupt, Take&& take) {
  example::ProgressBar bar(stderr, "photograph");
  std::vector<at::Tensor> all;
  for (const auto& path : paths) {
    interrupt.check();
    all.push_back(take(path));
    bar({.index = std::ssize(all) - 1, .count = std::ssize(paths)});
  }
  return all;
}

inline std::vector<at::Tensor> load_all(const std::vector<std::filesystem::path>& paths, std::int64_t short_side,
                                        const example::Interrupt& interrupt) {
  return read_photographs(paths, interrupt, [&](const auto& path) { return load_photograph(path, short_side); });
}

/// The held-out photographs as squares [3,side,side], values 0 to 1. \param most of them, 0 for all
inline std::vector<at::Tensor> held_out_squares(const Settings& settings, const example::Interrupt& interrupt,
                                                std::size_t most = 0) {
  auto paths = split_photographs(settings.photographs).held_out;
  if (most > 0 && most < paths.size()) paths.resize(most);
  return read_photographs(paths, interrupt, [&](const auto& path) {
    return centre_square(load_photograph(path, 4 * settings.picture), settings.picture);
  });
}

/// The middle squares of photographs, [3,side,side] each, values 0 to 1. \param photographs uint8 [3,H,W]
inline std::vector<at::Tensor> squares_of(const std::vector<at::Tensor>& photographs, std::int64_t side) {
  std::vector<at::Tensor> squares;
  for (const auto& photograph : photographs) squares.push_back(centre_square(photograph, side));
  return squares;
}

/// How both trainings of the autoencoder's parts are optimised. \param folder for checkpoints
inline ip2p::TrainingOptions codec_training(const Settings& settings, std::filesystem::path folder) {
  ip2p::TrainingOptions options;
  options.folder = std::move(folder);
  options.clip_norm = 1.0;
  options.optimiser.weight_decay = 0.0;
  options.ema_decay = 0.998;
  options.threads = settings.shards;
  return options;
}

inline void write_sheet(const std::filesystem::path& path, const at::Tensor& sheet) {
  ip2p::write_image(path, ip2p::from_tensor(sheet));
}

/// The record of a training in `folder`. \param inputs of the training besides its options, by name: folders
inline example::RunRecord run_record(const Settings& settings, const std::filesystem::path& folder,
                                     const std::map<std::string, std::filesystem::path>& inputs) {
  auto basis = example::settings_of(settings.values, {"out"});
  basis["--photographs"] = example::content_setting(
      settings.photographs, example::files_digest(split_photographs(settings.photographs).training));
  for (const auto& [name, path] : inputs) {
    basis[name] = example::content_setting(path, example::folder_digest(path));
  }
  return {folder / "run.json", basis, [folder] { return !ip2p::CheckpointFolder(folder).steps().empty(); }};
}

/// Prints the mean loss at intervals, and the time left.
class Report {
 public:
  /// \param first updates made by earlier runs  \param steps all updates
  Report(std::int64_t first, std::int64_t steps) : first_(first), steps_(steps) {}

  void operator()(const ip2p::TrainingProgress& progress) {
    sum_ += progress.loss;
    ++count_;
    if (count_ < 50 && progress.step != steps_) return;
    const auto seconds = example::seconds_since(begin_) / static_cast<double>(progress.step - first_);
    fmt::print("step {} of {}: loss {:.4f}, rate {:.2e}, {} left\n", progress.step, steps_,
               sum_ / static_cast<double>(count_), progress.rate,
               example::clock_text(seconds * static_cast<double>(steps_ - progress.step)));
    std::fflush(stdout);
    sum_ = 0.0;
    count_ = 0;
  }

 private:
  std::int64_t first_, steps_;
  example::Clock::time_point begin_ = example::Clock::now();
  double sum_ = 0.0;
  std::int64_t count_ = 0;
};

/// Says how to go on. \returns the exit status of an interrupted program
inline int stopped(std::int64_t step) {
  fmt::print(stderr, "train_small_editor: stopped at step {}; run the same command again to continue\n", step);
  return 130;
}

inline void report_resumption(bool resumed, std::int64_t step, const std::vector<std::string>& skipped) {
  for (const auto& line : skipped) fmt::print("skipped: {}\n", line);
  if (resumed) fmt::print("resumed at step {}\n", step);
}

/// Trains the autoencoder and writes it to `work`/model. \returns the exit status
int train_autoencoder(const Settings& settings, const AutoencoderSettings& wanted, const example::Interrupt& interrupt);

/// Trains text encoder and UNet over that autoencoder and writes them beside it. \returns the exit status
int train_editor(const Settings& settings, const EditorSettings& wanted, const example::Interrupt& interrupt);

/// Fits the decoder to the editor's results and writes the editor with it to `work`/model. \returns the exit status
int train_decoder(const Settings& settings, const DecoderSettings& wanted, const example::Interrupt& interrupt);

}  // namespace small_editor
