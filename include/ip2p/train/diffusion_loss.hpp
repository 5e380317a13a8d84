#pragma once

/// \file
/// The loss of latent diffusion, for instructed edits and for text to image: tell the noise and the target apart.

#include <ATen/core/Reduction.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/train/dropout.hpp"
#include "ip2p/train/loss_weight.hpp"
#include "ip2p/train/precision.hpp"
#include "ip2p/unet/unet.hpp"

namespace ip2p {

/// Settings of `DiffusionLoss`.
struct DiffusionLossOptions {
  std::int64_t batch = 32;
  std::uint64_t seed = 0;
  double scaling_factor = 0.18215;                      ///< Of the target latents; the condition stays unscaled.
  PredictionType prediction = PredictionType::epsilon;  ///< What the network is asked for.
  at::ScalarType compute = at::kFloat;                  ///< kBFloat16 autocasts convolutions and products.
};

/// One batch as the network sees it.
struct NoisyBatch {
  at::Tensor input;      ///< [B,2C,h,w]: noisy target and condition; [B,C,h,w] without a condition.
  at::Tensor wanted;     ///< [B,C,h,w]: what shall be predicted.
  at::Tensor timesteps;  ///< [B], fp32.
  at::Tensor weights;    ///< [B], fp32: of each sample's squared error; undefined where all count alike.
  std::vector<std::string> instructions;  ///< "" where dropped.
};

/// Mean squared error of the prediction (the noise by default: Ho et al. 2020, eq. 14) under InstructPix2Pix's
/// conditioning: target = sample of the posterior times the scaling factor, condition = mode of the posterior unscaled,
/// t ~ U{0 ... N-1}. A UNet with as many input channels as latents is trained without a condition, from captions: text
/// to image.
///
/// Everything random - order, phrasing, dropout, timestep, noise - is a function of (seed, step, sample).
template <PairSource Source, ConditioningDropoutPolicy Dropout = ConditioningDropout,
          LossWeightPolicy Weight = UniformWeight>
class DiffusionLoss {
 public:
  /// Instructions to context, [U,T,D]; keeps its graph when the text encoder is trained too.
  using Encode = std::function<at::Tensor(std::span<const std::string>)>;

  /// \param source kept by reference
  DiffusionLoss(UNet unet, Encode encode, Source& source, Dropout dropout = {}, DiffusionLossOptions options = {},
                const DiscreteSchedule& schedule = DiscreteSchedule(), Weight weight = {})
      : unet_(std::move(unet)),
        encode_(std::move(encode)),
        source_(&source),
        dropout_(std::move(dropout)),
        options_(options),
        weight_(std::move(weight)),
        alphas_(schedule.alphas_cumprod()) {
    require(options_.batch > 0, "training batch: expected at least 1, found {}", options_.batch);
  }

  /// The part `shard` of `shards` equal parts of the batch of update `step`. May be called from several threads when
  /// the source's `get` may.
  [[nodiscard]] NoisyBatch batch(std::int64_t step, std::int64_t shard = 0, std::int64_t shards = 1) const {
    const at::NoGradGuard no_grad;
    require(shards > 0 && options_.batch % shards == 0, "training batch: expected a multiple of {} shards, found {}",
            shards, options_.batch);
    const std::int64_t count = options_.batch / shards;
    const std::int64_t first = shard * count;
    const auto order = indices(step * options_.batch + first, count);
    const bool conditioned = unet_.in_channels() > unet_.config().out_channels;
    std::vector<at::Tensor> means, logvars, conditions;
    std::vector<float> timesteps, signal, spread, weights;
    NoisyBatch result;
    for (std::int64_t b = first; b < first + count; ++b) {
      SampleRandom random(options_.seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(b));
      const auto t = random.below(static_cast<std::int64_t>(alphas_.size()));
      const Dropped dropped = dropout_.drop(random.uniform());
      EditPair pair = source_->get(order[static_cast<std::size_t>(b - first)], random);
      means.push_back(pair.target_mean);
      logvars.push_back(pair.target_logvar);
      if (conditioned) conditions.push_back(dropped.image ? at::zeros_like(pair.condition) : pair.condition);
      result.instructions.push_back(dropped.text ? std::string() : std::move(pair.instruction));
      timesteps.push_back(static_cast<float>(t));
      const double alpha = alphas_[static_cast<std::size_t>(t)];
      signal.push_back(static_cast<float>(std::sqrt(alpha)));
      spread.push_back(static_cast<float>(std::sqrt(1.0 - alpha)));
      weights.push_back(static_cast<float>(weight_(alpha / (1.0 - alpha), options_.prediction)));
    }
    const auto column = [](const std::vector<float>& values) { return at::tensor(values).view({-1, 1, 1, 1}); };
    const auto mean = at::stack(means);
    const CounterNoise source(options_.seed, static_cast<std::uint32_t>(first));
    const auto target =
        (mean + at::exp(0.5 * at::stack(logvars)) * source.normal(mean.sizes(), 2 * step)) * options_.scaling_factor;
    const auto noise = source.normal(mean.sizes(), 2 * step + 1);
    const auto kept = column(signal);
    const auto added = column(spread);
    result.input = target * kept + noise * added;
    if (conditioned) result.input = at::cat({result.input, at::stack(conditions)}, 1);
    switch (options_.prediction) {
      case PredictionType::epsilon:
        result.wanted = noise;
        break;
      case PredictionType::v_prediction:
        result.wanted = kept * noise - added * target;
        break;
      case PredictionType::sample:
        result.wanted = target;
        break;
    }
    result.timesteps = at::tensor(timesteps);
    if constexpr (!std::same_as<Weight, UniformWeight>) result.weights = at::tensor(weights);
    return result;
  }

  /// Loss of update `step`, a scalar with its graph.
  at::Tensor operator()(std::int64_t step) const { return loss(batch(step)); }

  /// Mean loss of one shard; see `ShardedLoss`.
  at::Tensor operator()(std::int64_t step, std::int64_t shard, std::int64_t shards) const {
    return loss(batch(step, shard, shards));
  }

  /// Loss of a given batch.
  [[nodiscard]] at::Tensor loss(const NoisyBatch& batch) const {
    // Phrasings repeat within a batch: each is encoded once.
    std::vector<std::string> unique;
    std::map<std::string, std::int64_t> places;
    std::vector<std::int64_t> rows;
    for (const auto& instruction : batch.instructions) {
      const auto [place, fresh] = places.emplace(instruction, static_cast<std::int64_t>(unique.size()));
      if (fresh) unique.push_back(instruction);
      rows.push_back(place->second);
    }
    const auto device = unet_.device();
    const Autocast autocast(device.type(), options_.compute);
    const auto contexts = encode_(unique);
    const auto context = at::index_select(contexts, 0, at::tensor(rows).to(contexts.device()));
    const auto predicted = unet_(batch.input.to(device), batch.timesteps.to(device), context);
    const auto wanted = batch.wanted.to(device);
    if (!batch.weights.defined()) return at::mse_loss(predicted.to(at::kFloat), wanted);
    const auto errors = at::mse_loss(predicted.to(at::kFloat), wanted, at::Reduction::None).mean({1, 2, 3});
    return (errors * batch.weights.to(device)).mean();
  }

 private:
  /// Pairs of `count` samples of the run from the n-th on.
  [[nodiscard]] std::vector<std::int64_t> indices(std::int64_t n, std::int64_t count) const {
    const std::int64_t size = source_->size();
    std::vector<std::int64_t> result;
    std::vector<std::int64_t> order;
    for (std::int64_t epoch = -1; count > 0; --count, ++n) {
      if (n / size != epoch) {
        epoch = n / size;
        order = epoch_order(options_.seed, epoch, size);
      }
      result.push_back(order[static_cast<std::size_t>(n % size)]);
    }
    return result;
  }

  UNet unet_;
  Encode encode_;
  Source* source_;
  Dropout dropout_;
  DiffusionLossOptions options_;
  Weight weight_;
  std::vector<double> alphas_;
};

}  // namespace ip2p
