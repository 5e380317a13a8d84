#pragma once

/// \file
/// The loop around any loss: backward pass, AdamW, moving average, loss curve, checkpoints, exact resumption, on one
/// process or many.

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <torch/csrc/autograd/variable.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/parallel/gradient_reducer.hpp"
#include "ip2p/parallel/no_communicator.hpp"
#include "ip2p/train/adamw.hpp"
#include "ip2p/train/agreement.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/ema.hpp"
#include "ip2p/train/learning_rate.hpp"
#include "ip2p/train/loss_curve.hpp"
#include "ip2p/train/parameters.hpp"
#include "ip2p/train/training_loss.hpp"

namespace ip2p {

/// Settings of a `TrainingRun`.
struct TrainingOptions {
  std::filesystem::path folder;         ///< Checkpoints and loss curve; empty keeps everything in memory.
  std::int64_t checkpoint_every = 500;  ///< Updates between checkpoints.
  std::size_t keep = 2;                 ///< Checkpoints that stay on disk.
  AdamWOptions adamw{};
  double ema_decay = 0.9999;
  double clip_norm = 0.0;                ///< Largest gradient norm; 0 does not clip (InstructPix2Pix).
  std::int64_t largest_bad_streak = 10;  ///< Updates in a row with a loss that is not finite before the run gives up.
  std::int64_t accumulate = 1;           ///< Parts of a process's share of the batch, computed one after another.
};

/// What an update reports.
struct TrainingProgress {
  std::int64_t step = 0;  ///< Updates made, this one included.
  double loss = 0.0;      ///< Of the whole batch, on every process.
  double rate = 0.0;      ///< Learning rate used.
  double seconds = 0.0;   ///< Wall time of the run so far, earlier sessions included.
};

/// Minimises a loss that is a function of the update's number. When that function draws its batch and noise from
/// (seed, step) alone, an interrupted run that is resumed ends with the same bits as one that was not (on a CPU, with
/// the same number of threads and processes).
///
/// With several processes each computes its part of the same batch, so that their number changes nothing but the order
/// of additions. All start with the weights of rank 0, which alone writes checkpoints and the loss curve; all resume
/// from what rank 0 read. Every process makes the same calls; callbacks run on all of them.
template <LearningRatePolicy Rate = ConstantRate, Communicator Processes = NoCommunicator>
class TrainingRun {
 public:
  TrainingRun(Parameters parameters, Rate rate, TrainingOptions options, Processes processes = {})
      : processes_(std::move(processes)),
        parameters_(detail::with_weights_of_first(std::move(parameters), processes_)),
        rate_(std::move(rate)),
        options_(std::move(options)),
        adamw_(parameters_.tensors, options_.adamw),
        average_(parameters_.tensors, options_.ema_decay),
        gradients_(parameters_.tensors, processes_),
        curve_(writes() ? options_.folder / "loss.csv" : std::filesystem::path()) {
    require(parameters_.size() > 0, "training: expected parameters to train, found none");
    require(options_.checkpoint_every > 0, "checkpoint interval: expected at least 1 update, found {}",
            options_.checkpoint_every);
    require(options_.accumulate > 0, "training: expected to accumulate at least 1 part, found {}", options_.accumulate);
  }

  [[nodiscard]] const Processes& processes() const { return processes_; }
  [[nodiscard]] std::int64_t step() const { return step_; }
  [[nodiscard]] const Parameters& parameters() const { return parameters_; }
  [[nodiscard]] ExponentialAverage& average() { return average_; }
  [[nodiscard]] const LossCurve& curve() const { return curve_; }

  /// Continues from the newest checkpoint of `options.folder` that verifies; false if there is none.
  /// \param skipped receives, on rank 0, a line for each newer checkpoint that did not verify
  /// \throws Error when the checkpoint belongs to other parameters
  bool resume(std::vector<std::string>* skipped = nullptr) {
    bool found = false;
    std::exception_ptr problem;
    if (writes()) {
      try {
        const auto checkpoint = CheckpointFolder(options_.folder, options_.keep).load_newest(skipped);
        if (checkpoint) restore(*checkpoint);
        found = checkpoint.has_value();
      } catch (...) {
        problem = std::current_exception();
      }
    }
    const bool failed = detail::any_of_all(problem != nullptr, processes_);
    if (problem) std::rethrow_exception(problem);
    require(!failed, "training: rank 0 could not resume from its checkpoint; its own message says why");
    if (!detail::any_of_all(found, processes_)) return false;
    if (processes_.size() > 1) take_state_of_first();
    curve_.truncate(step_);
    return true;
  }

  /// The whole state, as a checkpoint holds it; tensors are shared with the run.
  [[nodiscard]] Checkpoint snapshot() const {
    Checkpoint checkpoint{step_, {}, {{"ema_updates", average_.updates()}, {"seconds", seconds_}}};
    for_each_tensor(
        [&](const std::string& name, const at::Tensor& tensor) { checkpoint.tensors.emplace(name, tensor.detach()); });
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
    for_each_tensor(
        [&](const std::string& name, const at::Tensor& tensor) { tensor.detach().copy_(checkpoint.tensors.at(name)); });
    step_ = checkpoint.step;
    average_.set_updates(checkpoint.state.at("ema_updates").get<std::int64_t>());
    seconds_ = checkpoint.state.at("seconds").get<double>();
  }

  /// Writes a checkpoint now (nothing without a folder, and on other processes than the first).
  void save() {
    if (!writes()) return;
    CheckpointFolder(options_.folder, options_.keep).save(snapshot());
    curve_.flush();
  }

  /// One update. A loss that is not finite, on whichever process, leaves weights and averages untouched on all of them
  /// and counts as a bad update.
  /// \param loss called with the update's number (0-based) and, where it can be, with a part and the number of parts
  /// \throws Error after `largest_bad_streak` bad updates in a row, and when a batch shall be split but `loss` cannot
  template <TrainingLoss Loss>
  TrainingProgress advance(Loss&& loss) {
    const auto start = std::chrono::steady_clock::now();
    const double rate = rate_(step_);
    adamw_.zero_gradients();
    const auto accumulate = options_.accumulate;
    const auto parts = processes_.size() * accumulate;
    const auto first = processes_.rank() * accumulate;
    // The last part's backward pass is the one that talks to the others, so all must know before it that they will.
    at::Tensor last;
    double mine = 0.0;
    for (std::int64_t part = first; part < first + accumulate; ++part) {
      last = detail::loss_of_part(loss, step_, part, parts);
      mine += last.detach().template item<double>() / static_cast<double>(accumulate);
      if (part + 1 < first + accumulate && last.requires_grad() && std::isfinite(mine)) last.backward();
    }
    std::vector<std::int64_t> bad;
    const double number = detail::mean_loss(mine, processes_, bad);
    if (bad.empty()) {
      bad_streak_ = 0;
      if (last.requires_grad()) {
        gradients_.backward(last);
      } else {
        gradients_.average();
      }
      if (accumulate > 1) scale_gradients(parameters_.tensors, 1.0 / static_cast<double>(accumulate));
      if (options_.clip_norm > 0) clip_gradients(parameters_.tensors, options_.clip_norm);
      adamw_.step(rate);
      average_.update();
    } else {
      ++bad_streak_;
      require(bad_streak_ < options_.largest_bad_streak,
              "training: the loss was not finite {} times in a row, last at step {}{}", bad_streak_, step_,
              processes_.size() == 1 ? std::string() : fmt::format(" on rank {}", fmt::join(bad, ", ")));
    }
    ++step_;
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const TrainingProgress progress{step_, number, rate, seconds_};
    curve_.add({progress.step, progress.loss, progress.rate, progress.seconds});
    return progress;
  }

  /// Updates until `steps` are made or a stop is requested, of whichever process, with a checkpoint every
  /// `checkpoint_every` and at the end.
  /// \param on_step called after each update  \return whether all steps were made
  template <TrainingLoss Loss>
  bool run(std::int64_t steps, Loss&& loss, const std::function<void(const TrainingProgress&)>& on_step = {},
           std::stop_token stop = {}) {
    while (step_ < steps) {
      if (detail::any_of_all(stop.stop_requested(), processes_)) {
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
  /// Whether this process reads and writes the folder.
  [[nodiscard]] bool writes() const { return processes_.rank() == 0 && !options_.folder.empty(); }

  /// Everything that a checkpoint restores, as rank 0 has it.
  void take_state_of_first() {
    const auto counters = at::zeros({3}, at::kDouble);
    auto* data = counters.template data_ptr<double>();
    data[0] = static_cast<double>(step_);
    data[1] = static_cast<double>(average_.updates());
    data[2] = seconds_;
    processes_.broadcast(counters, 0);
    step_ = static_cast<std::int64_t>(data[0]);
    average_.set_updates(static_cast<std::int64_t>(data[1]));
    seconds_ = data[2];
    for_each_tensor([&](const std::string&, const at::Tensor& tensor) { processes_.broadcast(tensor.detach(), 0); });
  }

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

  Processes processes_;
  Parameters parameters_;
  Rate rate_;
  TrainingOptions options_;
  AdamW adamw_;
  ExponentialAverage average_;
  GradientReducer<Processes> gradients_;
  LossCurve curve_;
  std::int64_t step_ = 0;
  std::int64_t bad_streak_ = 0;
  double seconds_ = 0.0;
};

}  // namespace ip2p
