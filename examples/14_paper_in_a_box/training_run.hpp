#pragma once

/// \file
/// What the two trainings share.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "ip2p/io/folder_lock.hpp"
#include "ip2p/io/make_folder.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/learning_rate.hpp"
#include "ip2p/train/training_options.hpp"
#include "support/program.hpp"
#include "support/progress_bar.hpp"
#include "support/run_record.hpp"
#include "training.hpp"

namespace small_world {

/// Prints a progress line at intervals, with the time left.
class TrainingReport {
 public:
  /// \param first updates made by earlier runs  \param steps all updates
  TrainingReport(std::int64_t first, std::int64_t steps) : first_(first), steps_(steps) {}

  void operator()(const ip2p::TrainingProgress& progress) {
    sum_ += progress.loss;
    ++count_;
    if (progress.step % every() != 0 && progress.step != steps_) return;
    const auto seconds = example::seconds_since(begin_) / static_cast<double>(progress.step - first_);
    fmt::print("update {} of {}: loss {:.4f}, {} left\n", progress.step, steps_, sum_ / static_cast<double>(count_),
               example::clock_text(seconds * static_cast<double>(steps_ - progress.step)));
    std::fflush(stdout);
    sum_ = 0;
    count_ = 0;
  }

 private:
  [[nodiscard]] std::int64_t every() const { return std::max<std::int64_t>(1, steps_ / 20); }

  std::int64_t first_, steps_;
  example::Clock::time_point begin_ = example::Clock::now();
  double sum_ = 0;
  std::int64_t count_ = 0;
};

/// Up over a tenth of the run, then down to a twentieth.
inline ip2p::WarmupCosine rate_of(const TrainingSettings& o) {
  return {o.rate, std::min<std::int64_t>(100, o.steps / 10), o.steps, 0.05};
}

/// What both trainings have in common.
inline ip2p::TrainingOptions options_of(const TrainingSettings& o) {
  ip2p::TrainingOptions options;
  options.folder = o.out / "training";
  options.clip_norm = 1.0;
  options.ema_decay = 0.995;
  return options;
}

/// The record of a training. \param inputs of the training besides its options, by name: digests of what they hold
inline example::RunRecord record_of(const TrainingSettings& o, const std::map<std::string, nlohmann::json>& inputs) {
  auto settings = example::settings_of(o.values, {});
  for (const auto& [name, input] : inputs) settings[name] = input;
  const auto checkpoints = o.out / "training";
  return {checkpoints / "run.json", settings,
          [checkpoints] { return !ip2p::CheckpointFolder(checkpoints).steps().empty(); }};
}

/// Compares the settings with those of the run so far. \return whether all of it is done, which is then said
/// \param result what the training writes
inline bool is_complete(const TrainingSettings& o, example::RunRecord& record, const fs::path& result) {
  record.agree(o.change);
  const bool complete = record.finished() >= o.steps && fs::exists(result) && fs::exists(o.out / "report.json");
  if (complete) fmt::print("complete already, after {} updates: {}\n", record.finished(), result.string());
  return complete;
}

/// Goes on from the last checkpoint, says so, and records the settings. \return what keeps other processes out
template <class Run>
[[nodiscard]] ip2p::FolderLock begin(const TrainingSettings& o, Run& run, example::RunRecord& record) {
  const auto folder = options_of(o).folder;
  ip2p::make_folder(folder);
  ip2p::FolderLock lock(folder);
  std::vector<std::string> skipped;
  if (run.resume(&skipped)) fmt::print("resumed at update {}\n", run.step());
  for (const auto& line : skipped) fmt::print(stderr, "warning: {}\n", line);
  record.begin(run.step());
  return lock;
}

/// Says how to go on. \returns the exit status of an interrupted program
inline int stopped(std::int64_t step) {
  fmt::print(stderr, "small_world: stopped at update {}; run the same command again to continue\n", step);
  return 130;
}

}  // namespace small_world
