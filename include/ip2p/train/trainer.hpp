#pragma once

/// \file
/// Training an editor: pairs, dropout and learning rate are policies; the rest is the published recipe.

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/text/clip_text_model.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/sharded_loss.hpp"
#include "ip2p/train/training_run.hpp"

namespace ip2p {

/// Trains a UNet, and a text model with it where one is given, to predict noise under InstructPix2Pix's conditioning.
///
/// \code
/// ip2p::Trainer trainer(unet, encode, pairs, ip2p::ConditioningDropout{}, ip2p::ConstantRate{1e-4}, loss, options);
/// trainer.resume();
/// trainer.run(10'000);
/// \endcode
template <PairSource Source, ConditioningDropoutPolicy Dropout = ConditioningDropout,
          LearningRatePolicy Rate = ConstantRate, Communicator Processes = NoCommunicator, class Optimiser = AdamW>
class Trainer {
 public:
  using Loss = DiffusionLoss<Source, Dropout>;

  /// \param encode instructions to context; must keep its graph when `text_model` is trained
  /// \param pairs kept by reference  \param text_model trained jointly when given
  /// \param shards threads that share the part of an update that this process computes; see `ShardedLoss`
  /// \param options also say which optimiser; with a forward pass in fp16 (`prediction.compute`) the loss is scaled
  /// \param processes those that share an update; see `TrainingRun`
  Trainer(UNet unet, typename Loss::Encode encode, Source& pairs, Dropout dropout, Rate rate,
          DiffusionLossOptions prediction, TrainingOptionsOf<Optimiser> options,
          std::optional<ClipTextModel> text_model = std::nullopt, std::int64_t shards = 1,
          const DiscreteSchedule& schedule = DiscreteSchedule(), Processes processes = {})
      : unet_(std::move(unet)),
        text_model_(std::move(text_model)),
        parameters_(collect(unet_, text_model_)),
        loss_(unet_, std::move(encode), pairs, std::move(dropout), prediction, schedule),
        run_(parameters_, std::move(rate), with_scaler(std::move(options), prediction.compute), std::move(processes)),
        shards_(shards) {}

  /// Continues from the newest valid checkpoint; see `TrainingRun::resume`.
  bool resume(std::vector<std::string>* skipped = nullptr) { return run_.resume(skipped); }

  /// Trains until `steps` updates are made in all; see `TrainingRun::run`.
  bool run(std::int64_t steps, const std::function<void(const TrainingProgress&)>& on_step = {},
           std::stop_token stop = {}) {
    if (shards_ == 1) return run_.run(steps, loss_, on_step, stop);
    const ShardedLoss sharded(std::cref(loss_), parameters_, shards_);
    return run_.run(steps, sharded, on_step, stop);
  }

  /// Calls `use` while the averaged weights are in place of the trained ones; see `TrainingRun::with_average`.
  template <class Use>
  void with_average(Use&& use) {
    run_.with_average(std::forward<Use>(use));
  }

  [[nodiscard]] const Loss& loss() const { return loss_; }
  [[nodiscard]] TrainingRun<Rate, Processes, Optimiser>& training() { return run_; }
  [[nodiscard]] std::int64_t step() const { return run_.step(); }

 private:
  static Parameters collect(UNet& unet, std::optional<ClipTextModel>& text_model) {
    Parameters parameters;
    parameters.add(unet.module(), "unet");
    if (text_model) parameters.add(text_model->module(), "text_encoder");
    return parameters;
  }

  static TrainingOptionsOf<Optimiser> with_scaler(TrainingOptionsOf<Optimiser> options, at::ScalarType compute) {
    if (compute == at::kHalf && !options.loss_scaler) options.loss_scaler.emplace();
    return options;
  }

  UNet unet_;
  std::optional<ClipTextModel> text_model_;
  Parameters parameters_;
  Loss loss_;
  TrainingRun<Rate, Processes, Optimiser> run_;
  std::int64_t shards_;
};

}  // namespace ip2p
