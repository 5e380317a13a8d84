#pragma once

/// \file
/// What the two trainings share.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ip2p/train/learning_rate.hpp"
#include "ip2p/train/training_options.hpp"
#include "support/program.hpp"
#include "support/progress_bar.hpp"
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

/// Goes on from the last checkpoint, and says so.
template <class Run>
void report_resumption(Run& run) {
  std::vector<std::string> skipped;
  if (run.resume(&skipped)) fmt::print("resumed at update {}\n", run.step());
  for (const auto& line : skipped) fmt::print(stderr, "warning: {}\n", line);
}

/// Says how to go on. \returns the exit status of an interrupted program
inline int stopped(std::int64_t step) {
  fmt::print(stderr, "small_world: stopped at update {}; run the same command again to continue\n", step);
  return 130;
}

}  // namespace small_world
