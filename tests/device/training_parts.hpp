#pragma once

// A training run whose parts are erased, so that checks and benchmarks compile one trainer and one loss.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "device/models.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/text/any_text_encoder.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/trainer.hpp"

namespace ip2p::device_check {

/// A `PairSource` of a function, and possibly of one that makes several pairs at once.
struct PairsOf {
  using Several = std::vector<EditPair>(std::span<const std::int64_t> is, std::span<SampleRandom> random);

  std::int64_t count = 0;
  std::function<EditPair(std::int64_t i, SampleRandom& random)> make{};
  std::function<Several> make_all{};
  [[nodiscard]] std::int64_t size() const { return count; }
  [[nodiscard]] EditPair get(std::int64_t i, SampleRandom& random) const { return make(i, random); }
  [[nodiscard]] std::vector<EditPair> get_all(std::span<const std::int64_t> is, std::span<SampleRandom> random) const {
    if (make_all) return make_all(is, random);
    std::vector<EditPair> pairs;
    for (std::size_t i = 0; i < is.size(); ++i) pairs.push_back(make(is[i], random[i]));
    return pairs;
  }
};

/// A network in training. Neither copied nor moved, because the loss refers to the pairs.
class TrainingRun {
 public:
  using Loss = std::function<at::Tensor(std::int64_t step, std::int64_t part, std::int64_t parts)>;

  TrainingRun(UNet network, AnyTextEncoder text, PairsOf source, DiffusionLossOptions options,
              TrainingOptions training = {})
      : unet(std::move(network)),
        pairs(std::move(source)),
        loss(unet, std::move(text), pairs, UniformTimesteps{}, EpsPrediction{}, options),
        trainer(
            Parameters().add(unet),
            [this](std::int64_t step, std::int64_t part, std::int64_t parts) { return loss(step, part, parts); },
            ConstantRate{1e-4}, scaled(std::move(training), options.compute)) {}
  TrainingRun(const TrainingRun&) = delete;
  TrainingRun& operator=(const TrainingRun&) = delete;

  UNet unet;
  PairsOf pairs;
  DiffusionLoss<UNet, PairsOf, UniformTimesteps, EpsPrediction> loss;
  Trainer<Loss> trainer;

 private:
  /// A function does not tell the trainer that it computes in fp16.
  static TrainingOptions scaled(TrainingOptions training, at::ScalarType compute) {
    // A lower start than the default: an update that overflows is left out, and the reference leaves none out.
    if (compute == at::kHalf) training.loss_scaler.emplace().initial_scale = 1024.0;
    return training;
  }
};

}  // namespace ip2p::device_check
