#pragma once

/// \file
/// The two trainings: settings, what both report, and their entry points.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ip2p/io/image.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/training_options.hpp"
#include "photographs.hpp"
#include "support/contents.hpp"
#include "support/interrupt.hpp"
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

/// Of the autoencoder's training.
struct AutoencoderSettings {
  std::int64_t steps = 4000;
  double rate = 2e-3;
  std::int64_t crops = 8;
  std::vector<std::int64_t> channels{16, 16, 32, 64};
};

/// Of the text encoder's and the UNet's training.
struct EditorSettings {
  std::filesystem::path tokenizer = "models/clip-tokenizer";
  std::int64_t steps = 6000;
  std::int64_t coarse_steps = 4500;
  std::int64_t batch = 16;
  double rate = 7e-4;
  std::int64_t crops = 80;
  std::vector<std::int64_t> channels{64, 96, 128};
  std::int64_t unedited = 2;
  std::string compute = "fp32";
};

inline std::vector<at::Tensor> load_all(const std::vector<std::filesystem::path>& paths, std::int64_t short_side) {
  std::vector<at::Tensor> photographs;
  for (const auto& path : paths) photographs.push_back(load_photograph(path, short_side));
  return photographs;
}

/// The held-out photographs as squares [3,side,side], values 0 to 1.
inline std::vector<at::Tensor> held_out_squares(const Settings& settings) {
  std::vector<at::Tensor> squares;
  for (const auto& path : split_photographs(settings.photographs).held_out) {
    squares.push_back(centre_square(load_photograph(path, 4 * settings.picture), settings.picture));
  }
  return squares;
}

inline void write_sheet(const std::filesystem::path& path, const at::Tensor& sheet) {
  ip2p::write_image(path, ip2p::from_tensor(sheet));
}

/// The record of a training in `folder`. \param inputs of the training besides its options, by name: folders
inline example::RunRecord run_record(const Settings& settings, const std::filesystem::path& folder,
                                     const std::map<std::string, std::filesystem::path>& inputs) {
  auto basis = example::settings_of(settings.values, {"work"});
  basis["--photographs"] = example::content_setting(
      settings.photographs, example::files_digest(split_photographs(settings.photographs).training));
  for (const auto& [name, path] : inputs) {
    basis[name] = example::content_setting(path, example::folder_digest(path));
  }
  return {folder / "run.json", basis, [folder] { return !ip2p::CheckpointFolder(folder).steps().empty(); }};
}

/// Prints the mean loss at intervals.
struct Report {
  std::int64_t every = 50;
  double sum = 0.0;
  std::int64_t count = 0;

  void operator()(const ip2p::TrainingProgress& progress) {
    sum += progress.loss;
    if (++count < every) return;
    fmt::print("step {} loss {:.4f} rate {:.2e} {:.0f} s\n", progress.step, sum / static_cast<double>(count),
               progress.rate, progress.seconds);
    std::fflush(stdout);
    sum = 0.0;
    count = 0;
  }
};

inline void report_resumption(bool resumed, std::int64_t step, const std::vector<std::string>& skipped) {
  for (const auto& line : skipped) fmt::print("skipped: {}\n", line);
  if (resumed) fmt::print("resumed at step {}\n", step);
}

/// Trains the autoencoder and writes it to `work`/model.
void train_autoencoder(const Settings& settings, const AutoencoderSettings& wanted,
                       const example::Interrupt& interrupt);

/// Trains text encoder and UNet over that autoencoder and writes them beside it.
void train_editor(const Settings& settings, const EditorSettings& wanted, const example::Interrupt& interrupt);

}  // namespace small_editor
