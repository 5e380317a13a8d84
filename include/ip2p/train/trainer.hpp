#pragma once

/// \file
/// A training loop for any loss: prefetching, backward pass, optimiser, moving average, loss curve, checkpoints and
/// exact resumption, on one process or many.

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/parallel/concepts.hpp"
#include "ip2p/parallel/gradient_reducer.hpp"
#include "ip2p/parallel/no_communicator.hpp"
#include "ip2p/train/agreement.hpp"
#include "ip2p/train/checkpoint.hpp"
#include "ip2p/train/checkpoint_writer.hpp"
#include "ip2p/train/ema.hpp"
#include "ip2p/train/gradients.hpp"
#include "ip2p/train/learning_rate.hpp"
#include "ip2p/train/loss_curve.hpp"
#include "ip2p/train/parameters.hpp"
#include "ip2p/train/parts_of_update.hpp"
#include "ip2p/train/precision.hpp"
#include "ip2p/train/run_counters.hpp"
#include "ip2p/train/run_tensors.hpp"
#include "ip2p/train/sharded_optimiser.hpp"
#include "ip2p/train/threads_of_update.hpp"
#include "ip2p/train/training_loss.hpp"
#include "ip2p/train/training_options.hpp"

namespace ip2p {

/// Minimises a loss that is a function of the update's number. If its batch and noise depend only on (seed, step), a
/// resumed run ends with the same bits as an uninterrupted one (on a CPU, with the same number of threads and
/// processes).
///
/// \code
/// const ip2p::DiffusionLoss loss(unet, encoder, pairs, ip2p::UniformTimesteps{}, ip2p::EpsPrediction{},
///                                {.batch = 32});
/// ip2p::Trainer trainer(ip2p::Parameters().add(unet), loss, ip2p::ConstantRate{1e-4}, {.folder = "training"});
/// trainer.resume();
/// trainer.run(10'000);
/// \endcode
///
/// Several processes each compute a part of the same batch, so their number only changes the order of additions. All
/// start from rank 0's weights and resume from the checkpoint that rank 0 reads; only rank 0 writes checkpoints and the
/// loss curve. Every process must make the same calls; callbacks run on all of them. `TrainingOptions::shard_state`
/// divides the optimiser's state and the averages among the processes; checkpoints do not depend on it, nor on the
/// number of processes.
template <class Loss, class Rate = ConstantRate, class Optimiser = AdamW, class Processes = NoCommunicator>
class Trainer {
  static_assert((require_training_loss<Loss&>(), true));
  static_assert((require_learning_rate_policy<Rate>(), true));
  static_assert((require_communicator<Processes>(), true));

 public:
  /// \param parameters to train  \param loss copied; see `loss()`
  /// \param options `TrainingOptionsOf<Adafactor>{...}` selects another optimiser
  /// \param processes that share each update
  /// \throws Error for options out of range and when there is nothing to train
  Trainer(Parameters parameters, Loss loss, Rate rate = {}, TrainingOptionsOf<Optimiser> options = {},
          Processes processes = {})
      : processes_(std::move(processes)),
        parameters_(detail::with_weights_of_first(std::move(parameters), processes_)),
        loss_(std::move(loss)),
        rate_(std::move(rate)),
        options_(std::move(options)),
        optimiser_(ParameterShards(parameters_.tensors, processes_, options_.shard_state), options_.optimiser),
        average_(optimiser_.shards().own(), options_.ema_decay),
        gradients_(parameters_.tensors, processes_),
        curve_(writes() ? options_.folder / "loss.csv" : std::filesystem::path()),
        writer_([folder = options_.folder, keep = options_.keep](const Checkpoint& checkpoint) {
          CheckpointFolder(folder, keep).save(checkpoint);
        }) {
    require(parameters_.size() > 0, "training: expected parameters to train, found none");
    require(options_.checkpoint_every > 0, "checkpoint interval: expected at least 1 update, found {}",
            options_.checkpoint_every);
    require(options_.keep > 0, "checkpoints to keep: expected at least 1, found {}", options_.keep);
    require(options_.accumulate > 0, "training: expected to accumulate at least 1 part, found {}", options_.accumulate);
    require(options_.threads > 0, "training threads: expected at least 1, found {}", options_.threads);
    require(LossOfBatches<Loss> || options_.prefetch.workers == 0,
            "prefetch: expected a loss with `batch(step, part, parts)` and `loss(batch)` for {} workers, found one "
            "without",
            options_.prefetch.workers);
    if constexpr (detail::TellsCompute<Loss>) {
      if (loss_.compute() == at::kHalf && !options_.loss_scaler) options_.loss_scaler.emplace();
    }
    if (options_.loss_scaler) scaler_.emplace(*options_.loss_scaler);
  }

  /// The loss being minimised; may be replaced between updates.
  [[nodiscard]] Loss& loss() { return loss_; }
  /// What is minimised.
  [[nodiscard]] const Loss& loss() const { return loss_; }

  /// Those that train together.
  [[nodiscard]] const Processes& processes() const { return processes_; }
  /// Updates made, earlier sessions included.
  [[nodiscard]] std::int64_t step() const { return step_; }
  /// What is trained.
  [[nodiscard]] const Parameters& parameters() const { return parameters_; }
  /// The losses so far.
  [[nodiscard]] const LossCurve& curve() const { return curve_; }

  /// This process's share of the averages and the optimiser's state: all of it unless the state is divided.
  [[nodiscard]] const ExponentialAverage& average() const { return average_; }
  /// With this process's share of the state.
  [[nodiscard]] const ShardedOptimiser<Optimiser, Processes>& optimiser() const { return optimiser_; }

  /// Swaps weights and averages; calling it twice restores both. Every process must call it, because divided averages
  /// are fetched from their owners.
  void swap_average() {
    average_.swap();
    optimiser_.shards().publish();
  }

  /// Calls `use` with the averaged weights in place of the trained ones, on every process.
  template <class Use>
  void with_average(Use&& use) {
    swap_average();
    try {
      use();
    } catch (...) {
      swap_average();
      throw;
    }
    swap_average();
  }

  /// Resumes from the newest intact checkpoint in `options.folder`; false if there are no checkpoints. Newer damaged
  /// ones are renamed to "step_N.damaged".
  /// \param skipped on rank 0, receives a line for each damaged one
  /// \throws Error when the checkpoint belongs to other parameters, or there are checkpoints but all are damaged
  bool resume(std::vector<std::string>* skipped = nullptr) {
    const auto mine = tensors();
    Checkpoint checkpoint;
    std::optional<RunCounters> counters;  // those of rank 0, if it found a checkpoint
    detail::on_first(processes_, "resume from its checkpoint", [&] {
      if (!writes()) return;
      writer_.wait();
      const CheckpointFolder folder(options_.folder, options_.keep);
      auto newest = folder.load_newest(skipped);
      if (!newest) return;
      checkpoint = std::move(*newest);
      mine.verify(checkpoint);
      counters = RunCounters::of(checkpoint);
      folder.set_aside_after(checkpoint.step);
    });
    const bool found = detail::any_of_all(counters.has_value(), processes_);
    if (found) {
      mine.receive(checkpoint);
      set(RunCounters::from_numbers(detail::of_first(counters.value_or(RunCounters{}).numbers(), processes_)));
    }
    saved_step_ = found ? step_ : -1;
    curve_.truncate(step_);  // a run killed before its first checkpoint may have left a curve too
    return found;
  }

  /// The whole state, as in a checkpoint. Tensors that this process holds are shared with the run. With divided state
  /// every process must call it, and each receives a full copy.
  [[nodiscard]] Checkpoint snapshot() const {
    Checkpoint checkpoint{step_, {}, counters().state()};
    tensors().for_each(
        [&](const std::string& name, const at::Tensor& values) { checkpoint.tensors.emplace(name, values); });
    return checkpoint;
  }

  /// Restores a state made by `snapshot()`, which every process must pass. \throws Error when names or shapes differ;
  /// nothing changes then
  void restore(const Checkpoint& checkpoint) {
    const auto mine = tensors();
    mine.verify(checkpoint);
    const auto counters = RunCounters::of(checkpoint);
    mine.take(checkpoint);
    set(counters);
    saved_step_ = -1;
  }

  /// Writes a checkpoint, or with `options.asynchronous` starts writing it; does nothing if rank 0, which writes it,
  /// has no folder. Every process must call it; rank 0 collects divided state one tensor at a time. \throws Error on
  /// every process if this checkpoint, or an earlier one still being written, could not be written
  void save() {
    const auto mine = tensors();
    Checkpoint checkpoint{step_, {}, counters().state()};
    constexpr auto purpose = "write its checkpoint";
    if (options_.asynchronous) {
      finish_saving();  // so that only one copy exists at a time
      detail::HostCopies host_copy;
      mine.for_each([&](const std::string& name, const at::Tensor& values) {
        if (writes()) checkpoint.tensors.emplace(name, host_copy(values));
      });
      detail::on_first(processes_, purpose, [&] {
        if (!writes()) return;
        curve_.flush();
        writer_.begin(std::move(checkpoint));
      });
    } else {
      const auto lend = [&] {
        mine.lend_to_first([&](const Weights& entries) {
          if (!writes()) return;
          curve_.flush();
          CheckpointFolder(options_.folder, options_.keep).save(checkpoint, entries);
        });
      };
      detail::on_first(processes_, purpose, lend, lend);
    }
    saved_step_ = step_;
  }

  /// Waits, on every process, until the last checkpoint is on disk. \throws Error if it could not be written
  void finish_saving() { ask_writer(&CheckpointWriter::wait); }

  /// One update, with its batch computed on demand. If the loss is not finite on any process, weights and averages stay
  /// unchanged on all of them, and the update counts as bad. With a `LossScaler` the same holds for gradients that are
  /// not finite, except that they count as bad only once the scale is below 1: above that, overflows are how it finds
  /// its scale.
  /// \throws Error after `largest_bad_streak` consecutive bad updates, when the batch must be split but the loss cannot
  ///   do so, and when a loss without a graph must be scaled
  TrainingProgress advance() {
    detail::PartsWhenDue<Loss> parts(loss_);
    return advance_with(parts);
  }

  /// Updates until `steps` are made or any process requests a stop. Writes a checkpoint every `checkpoint_every`
  /// updates and at the end; the last one is on disk when this returns.
  /// \param on_step called after each update  \return whether all steps were made
  bool run(std::int64_t steps, const std::function<void(const TrainingProgress&)>& on_step = {},
           std::stop_token stop = {}) {
    if constexpr (LossOfBatches<Loss>) {
      if (options_.prefetch.workers > 0 && step_ < steps) {
        detail::PartsAhead<Loss> parts(loss_, step_, processes_.rank() * parts_here(), parts_here(), parts_in_all(),
                                       options_.prefetch);
        return run_with(parts, steps, on_step, stop);
      }
    }
    detail::PartsWhenDue<Loss> parts(loss_);
    return run_with(parts, steps, on_step, stop);
  }

 private:
  /// Number of parts of a batch that each process computes.
  [[nodiscard]] std::int64_t parts_here() const { return options_.accumulate * options_.threads; }
  [[nodiscard]] std::int64_t parts_in_all() const { return processes_.size() * parts_here(); }

  /// The loss of the next part, with its graph; or that of the next `threads` parts, without one, after adding their
  /// gradients.
  template <class Parts>
  at::Tensor loss_of(Parts& parts, std::int64_t first) {
    if (options_.threads == 1) {
      auto loss = parts.loss(parts.take(step_, first, parts_in_all()));
      require(!scaler_ || loss.requires_grad(),
              "training: expected a loss with its graph where it is scaled, found one that adds gradients itself");
      return loss;
    }
    std::vector<typename Parts::Part> taken;
    for (std::int64_t thread = 0; thread < options_.threads; ++thread) {
      taken.push_back(parts.take(step_, first + thread, parts_in_all()));
    }
    return detail::loss_by_threads(
        parameters_, taken.size(), [&](std::size_t i) { return parts.loss(taken[i]); },
        [this](const at::Tensor& loss) { return scaled(loss); });
  }

  template <class Parts>
  TrainingProgress advance_with(Parts& parts) {
    const auto start = std::chrono::steady_clock::now();
    const double rate = rate_checked(rate_, step_);
    optimiser_.zero_gradients();
    const auto passes = options_.accumulate;
    at::Tensor last;
    std::vector<at::Tensor> losses;
    for (std::int64_t pass = 0; pass < passes; ++pass) {
      last = loss_of(parts, processes_.rank() * parts_here() + pass * options_.threads);
      losses.push_back(last.detach());
      if (pass + 1 < passes && last.requires_grad()) scaled(last).backward();
    }
    // Only the last part's backward pass communicates, so several processes must agree beforehand to run it. One alone
    // reads the losses of a GPU, which waits for it, after all work of the update is queued.
    const bool reads_last = processes_.size() == 1 && !last.is_cpu();
    if (reads_last) complete_gradients(last);
    std::vector<std::int64_t> bad;
    const double number = detail::mean_loss(detail::mean_of(losses), processes_, bad);
    TrainingProgress progress{step_ + 1, number, rate, 0.0, !bad.empty(), scaler_ ? scaler_->scale() : 1.0, overflows_};
    if (bad.empty()) {
      if (!reads_last) complete_gradients(last);
      // All processes hold identical gradients here, so they decide alike.
      progress.skipped = scaler_ && !scaler_->unscale(parameters_.tensors);
      if (!progress.skipped) update(rate);
      if (progress.skipped) progress.overflows = ++overflows_;
    }
    if (scaler_) scaler_->update(!progress.skipped);
    count_streak(progress, bad);
    ++step_;
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    progress.seconds = seconds_;
    curve_.add({progress.step, progress.loss, progress.rate, progress.seconds});
    return progress;
  }

  /// The backward pass of the last part, after which the gradients are those of all processes.
  void complete_gradients(const at::Tensor& last) {
    if (last.requires_grad()) {
      gradients_.backward(scaled(last));
    } else {
      gradients_.average();
    }
  }

  template <class Parts>
  bool run_with(Parts& parts, std::int64_t steps, const std::function<void(const TrainingProgress&)>& on_step,
                const std::stop_token& stop) {
    bool stopped = false;
    while (step_ < steps && !stopped) {
      ask_writer(&CheckpointWriter::check);
      stopped = detail::any_of_all(stop.stop_requested(), processes_);
      if (stopped) break;
      const auto progress = advance_with(parts);
      if (on_step) on_step(progress);
      if (step_ % options_.checkpoint_every == 0) save();
    }
    if (step_ > 0 && saved_step_ != step_) save();
    finish_saving();
    return !stopped;
  }

  /// Runs on every process; if the checkpoint turns out to be lost, it is due again.
  void ask_writer(void (CheckpointWriter::*question)()) {
    try {
      detail::on_first(processes_, "write its checkpoint", [&] { (writer_.*question)(); });
    } catch (...) {
      saved_step_ = -1;
      throw;
    }
  }

  /// Whether this process reads and writes the folder.
  [[nodiscard]] bool writes() const { return processes_.rank() == 0 && !options_.folder.empty(); }

  /// All tensors of a checkpoint with their owners. Collective.
  [[nodiscard]] RunTensors<Processes> tensors() const {
    const auto& shards = optimiser_.shards();
    const auto kinds = optimiser_.state();
    std::vector<RunTensor> list;
    std::size_t own = 0;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const auto& name = parameters_.names[i];
      list.push_back({"weights/" + name, every_process, parameters_.tensors[i].detach()});
      list.push_back({"average/" + name, shards.owner(i), shards.mine(i) ? average_.average()[own++] : at::Tensor()});
      for (const auto& kind : kinds) list.push_back({kind.name + "/" + name, shards.owner(i), kind.tensors[i]});
    }
    return {processes_, std::move(list)};
  }

  [[nodiscard]] RunCounters counters() const {
    RunCounters counters{step_, average_.updates(), seconds_, 0.0, 0, overflows_};
    if (scaler_) {
      counters.loss_scale = scaler_->scale();
      counters.good_updates = scaler_->good_updates();
    }
    return counters;
  }

  void set(const RunCounters& counters) {
    step_ = counters.step;
    average_.set_updates(counters.ema_updates);
    seconds_ = counters.seconds;
    overflows_ = counters.overflows;
    if (scaler_ && counters.loss_scale > 0.0) scaler_->set(counters.loss_scale, counters.good_updates);
  }

  [[nodiscard]] at::Tensor scaled(const at::Tensor& loss) const { return scaler_ ? scaler_->scaled(loss) : loss; }

  /// Updates the weights once the gradients are complete.
  void update(double rate) {
    if (options_.accumulate > 1) scale_gradients(parameters_.tensors, 1.0 / static_cast<double>(options_.accumulate));
    if (options_.clip_norm > 0) clip_gradients(parameters_.tensors, options_.clip_norm);
    optimiser_.step(rate);
    average_.update();
  }

  /// \param bad ranks whose loss was not finite
  void count_streak(const TrainingProgress& progress, const std::vector<std::int64_t>& bad) {
    if (!progress.skipped) bad_streak_ = 0;
    if (!bad.empty() || (progress.skipped && progress.scale < 1.0)) ++bad_streak_;
    if (!progress.skipped || bad_streak_ < options_.largest_bad_streak) return;
    if (bad.empty()) {
      throw_error(
          "training: gradients or loss were not finite {} times in a row, last at step {} with a loss scale of {}",
          bad_streak_, step_, progress.scale);
    }
    throw_error("training: the loss was not finite {} times in a row, last at step {}{}", bad_streak_, step_,
                processes_.size() == 1 ? std::string() : fmt::format(" on rank {}", fmt::join(bad, ", ")));
  }

  Processes processes_;
  Parameters parameters_;
  Loss loss_;
  Rate rate_;
  TrainingOptionsOf<Optimiser> options_;
  ShardedOptimiser<Optimiser, Processes> optimiser_;
  ExponentialAverage average_;
  GradientReducer<Processes> gradients_;
  std::optional<LossScaler> scaler_;
  LossCurve curve_;
  CheckpointWriter writer_;
  std::int64_t saved_step_ = -1;
  std::int64_t step_ = 0;
  std::int64_t bad_streak_ = 0;
  std::int64_t overflows_ = 0;
  double seconds_ = 0.0;
};

}  // namespace ip2p
