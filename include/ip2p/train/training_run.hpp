#pragma once

/// \file
/// The loop around any loss: backward pass, AdamW, moving average, loss curve, checkpoints, exact resumption.

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <chrono>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/train/adamw.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/ema.hpp"
#include "ip2p/train/learning_rate.hpp"
#include "ip2p/train/loss_curve.hpp"
#include "ip2p/train/parameters.hpp"

namespace ip2p {

/// Settings of a `TrainingRun`.
struct TrainingOptions {
  std::filesystem::path folder;           ///< Checkpoints and loss curve; empty keeps everything in memory.
  std::int64_t checkpoint_every = 500;    ///< Updates between checkpoints.
  std::size_t keep = 2;                   ///< Checkpoints that stay on disk.
  AdamWOptions adamw{};
  double ema_decay = 0.9999;
  double clip_norm = 0.0;                 ///< Largest gradient norm; 0 does not clip (InstructPix2Pix).
  std::int64_t largest_bad_streak = 10;   ///< Updates in a row with a loss that is not finite before the run gives up.

  /// Called between the backward pass and the update, e.g. to average gradients over processes.
  std::function<void(const std::vector<at::Tensor>& parameters)> after_backward;
};

/// What an update reports.
struct TrainingProgress {
  std::int64_t step = 0;     ///< Updates made, this one included.
  double loss = 0.0;
  double rate = 0.0;         ///< Learning rate used.
  double seconds = 0.0;      ///< Wall time of the run so far, earlier sessions included.
};

/// Minimises a loss that is a function of the update's number. When that function draws its batch and noise from
/// (seed, step) alone, an interrupted run that is resumed ends with the same bits as one that was not (on a CPU, with
/// the same number of threads).
template <LearningRatePolicy Rate = ConstantRate>
class TrainingRun {
 public:
  TrainingRun(Parameters parameters, Rate rate, TrainingOptions options)
      : parameters_(std::move(parameters)),
        rate_(std::move(rate)),
        options_(std::move(options)),
        adamw_(parameters_.tensors, options_.adamw),
        average_(parameters_.tensors, options_.ema_decay),
        curve_(options_.folder.empty() ? std::filesystem::path() : options_.folder / "loss.csv") {
    require(parameters_.size() > 0, "training: expected parameters to train, found none");
    require(options_.checkpoint_every > 0, "checkpoint interval: expected at least 1 update, found {}",
            options_.checkpoint_every);
  }

  [[nodiscard]] std::int64_t step() const { return step_; }
  [[nodiscard]] const Parameters& parameters() const { return parameters_; }
  [[nodiscard]] ExponentialAverage& average() { return average_; }
  [[nodiscard]] const LossCurve& curve() const { return curve_; }

  /// Continues from the newest checkpoint of `options.folder` that verifies; false if there is none.
  /// \param skipped receives a line for each newer checkpoint that did not verify
  /// \throws Error when the checkpoint belongs to other parameters
  bool resume(std::vector<std::string>* skipped = nullptr) {
    if (options_.folder.empty()) return false;
    const auto found = CheckpointFolder(options_.folder, options_.keep).load_newest(skipped);
    if (!found) return false;
    restore(*found);
    curve_.truncate(step_);
    return true;
  }

  /// The whole state, as a checkpoint holds it; tensors are shared with the run.
  [[nodiscard]] Checkpoint snapshot() const {
    Checkpoint checkpoint{step_, {}, {{"ema_updates", average_.updates()}, {"seconds", seconds_}}};
    for_each_tensor([&](const std::string& name, const at::Tensor& tensor) {
      checkpoint.tensors.emplace(name, tensor.detach());
    });
    return checkpoint;
  }

  /// Takes over a state made by `snapshot()`. Throws `Error` when names or shapes differ; nothing is changed then.
  void restore(const Checkpoint& checkpoint) {
    std::size_t expected = 0;
    for_each_tensor([&](const std::string& name, const at::Tensor& tensor) {
      ++expected;
      const auto found = checkpoint.tensors.find(name);
      require(found != checkpoint.tensors.end(), "checkpoint of step {}: no tensor '{}'", checkpoint.step, name);
      require(found->second.sizes() == tensor.sizes(), "checkpoint of step {}: tensor '{}': expected {}, found {}",
              checkpoint.step, name, shape_text(tensor.sizes()), shape_text(found->second.sizes()));
    });
    require(checkpoint.tensors.size() == expected, "checkpoint of step {}: expected {} tensors, found {}",
            checkpoint.step, expected, checkpoint.tensors.size());
    const at::NoGradGuard no_grad;
    for_each_tensor([&](const std::string& name, const at::Tensor& tensor) {
      tensor.detach().copy_(checkpoint.tensors.at(name));
    });
    step_ = checkpoint.step;
    average_.set_updates(checkpoint.state.at("ema_updates").get<std::int64_t>());
    seconds_ = checkpoint.state.at("seconds").get<double>();
  }

  /// Writes a checkpoint now (nothing without a folder).
  void save() {
    if (options_.folder.empty()) return;
    CheckpointFolder(options_.folder, options_.keep).save(snapshot());
    curve_.flush();
  }

  /// One update. A loss that is not finite leaves weights and averages untouched and counts as a bad update.
  /// \param loss called with the update's number (0-based), returns a scalar that depends on the parameters, or one
  ///   without a graph when it has left the gradients in the parameters itself (`ShardedLoss`)
  /// \throws Error after `largest_bad_streak` bad updates in a row
  template <std::invocable<std::int64_t> Loss>
  TrainingProgress advance(Loss&& loss) {
    const auto start = std::chrono::steady_clock::now();
    const double rate = rate_(step_);
    adamw_.zero_gradients();
    const at::Tensor value = loss(step_);
    const double number = value.detach().template item<double>();
    if (std::isfinite(number)) {
      bad_streak_ = 0;
      if (value.requires_grad()) value.backward();
      if (options_.after_backward) options_.after_backward(parameters_.tensors);
      if (options_.clip_norm > 0) clip_gradients(parameters_.tensors, options_.clip_norm);
      adamw_.step(rate);
      average_.update();
    } else {
      ++bad_streak_;
      require(bad_streak_ < options_.largest_bad_streak, "training: the loss was not finite {} times in a row, last at "
              "step {}", bad_streak_, step_);
    }
    ++step_;
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const TrainingProgress progress{step_, number, rate, seconds_};
    curve_.add({progress.step, progress.loss, progress.rate, progress.seconds});
    return progress;
  }

  /// Updates until `steps` are made or a stop is requested, with a checkpoint every `checkpoint_every` and at the end.
  /// \param on_step called after each update  \return whether all steps were made
  template <std::invocable<std::int64_t> Loss>
  bool run(std::int64_t steps, Loss&& loss, const std::function<void(const TrainingProgress&)>& on_step = {},
           std::stop_token stop = {}) {
    while (step_ < steps) {
      if (stop.stop_requested()) {
        save();
        return false;
      }
      const auto progress = advance(loss);
      if (on_step) on_step(progress);
      if (step_ % options_.checkpoint_every == 0 || step_ == steps) save();
    }
    return true;
  }

 private:
  template <class Visit>
  void for_each_tensor(Visit&& visit) const {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const auto& name = parameters_.names[i];
      visit("weights/" + name, parameters_.tensors[i]);
      visit("average/" + name, average_.average()[i]);
      visit("first_moment/" + name, adamw_.first_moments()[i]);
      visit("second_moment/" + name, adamw_.second_moments()[i]);
      visit("updates/" + name, adamw_.update_counts()[i]);
    }
  }

  Parameters parameters_;
  Rate rate_;
  TrainingOptions options_;
  AdamW adamw_;
  ExponentialAverage average_;
  LossCurve curve_;
  std::int64_t step_ = 0;
  std::int64_t bad_streak_ = 0;
  double seconds_ = 0.0;
};

}  // namespace ip2p
