#pragma once

/// \file
/// An opened model with the settings of the command line: edits photographs, several at once.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "grid.hpp"
#include "ip2p/core/any_noise.hpp"
#include "ip2p/io/picture_settings.hpp"
#include "ip2p/pipeline/fitted_photo.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "options.hpp"
#include "support/interrupt.hpp"
#include "support/picture_settings.hpp"

namespace edit_image {

/// A photograph as it was read, and as the model sees it.
struct Photograph {
  std::filesystem::path path;
  std::string sum;  ///< SHA-256 of its file, by which pictures name it.
  ip2p::Picture picture;
  ip2p::FittedPhoto fitted;
};

/// One edit.
struct Task {
  const Photograph* photograph;
  std::string prompt;
  std::uint64_t seed;
  std::filesystem::path preview = {};  ///< Where --preview writes; empty: nowhere.
};

/// What became of the tasks of a batch.
struct Edited {
  std::vector<ip2p::Image> pictures;  ///< At the size that was asked for, without what padding added.
  at::Tensor latents, start_noise;    ///< [B,C,h,w].
};

/// Edits photographs.
class Editing {
 public:
  /// Opens the model and prints what it holds. \throws Error for a model that cannot be opened, and for prompts that
  /// name different LoRAs
  Editing(const Options& options, const example::Interrupt& interrupt);

  /// Prints the prompts' lengths and the settings of the run.
  void report() const;

  /// Reads a photograph. \throws Error as `ip2p::read_picture`
  [[nodiscard]] Photograph read(const std::filesystem::path& path) const;
  [[nodiscard]] Photograph read(const std::filesystem::path& path, ip2p::Picture picture) const;

  /// Settings other than those of the command line, of which only what --grid varies may differ.
  void configure(const example::RunOptions& run);
  [[nodiscard]] const example::RunOptions& run() const { return run_; }

  /// Edits photographs of one size, each with the noise of a run of its own, and shows the progress. \throws Error as
  /// the pipeline; Cancelled
  [[nodiscard]] Edited edit(const std::vector<Task>& tasks);

  /// The photograph at the size of its edits.
  [[nodiscard]] ip2p::Image before(const Photograph& photograph) const;

  /// What a result says about how it was made.
  [[nodiscard]] ip2p::PictureSettings settings_of(const Task& task) const;
  /// The same of a sheet.
  [[nodiscard]] ip2p::PictureSettings settings_of(const Task& task, const std::vector<std::string>& grid) const;

  /// The settings of the run in a line, without those of `axes`.
  [[nodiscard]] std::string describe_settings(const std::vector<Axis>& axes) const;

  /// Of the run, complete but for the size of a photograph.
  [[nodiscard]] ip2p::RunSettings settings() const { return edit_.completed(base_); }
  [[nodiscard]] std::int64_t steps() const { return *settings().steps; }
  [[nodiscard]] ip2p::FitRule fit() const;
  [[nodiscard]] const ip2p::OpenedModel& model() const { return model_; }
  [[nodiscard]] const ip2p::Editor& pipeline() const { return edit_; }
  [[nodiscard]] double load_seconds() const { return load_seconds_; }
  [[nodiscard]] double edit_seconds() const { return edit_seconds_; }

 private:
  [[nodiscard]] ip2p::PipelineResult run_pipeline(const std::vector<Task>& tasks, std::span<const ip2p::Image> photos,
                                                  const std::vector<std::string>& prompts,
                                                  const ip2p::RunSettings& settings, ip2p::AnyNoise& noise) const;
  [[nodiscard]] example::Settings settings(const Task& task) const;

  Options options_;
  example::RunOptions run_;
  std::map<std::string, std::string> words_;  // prompts without the LoRAs that they name
  const example::Interrupt& interrupt_;
  double load_seconds_ = 0, edit_seconds_ = 0;
  ip2p::RunSettings base_;  // of every run, but for the size of the photograph
  std::optional<std::int64_t> resolution_;
  ip2p::OpenedModel model_;
  ip2p::Editor opened_, edit_;  // as the model has it, and with the run's settings
};

}  // namespace edit_image
