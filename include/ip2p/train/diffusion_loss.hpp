#pragma once

/// \file
/// The loss of latent diffusion, for instructed edits and for text-to-image.

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
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/core/cudnn_benchmark.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "ip2p/data/epoch_orders.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/text/concepts.hpp"
#include "ip2p/train/dropout.hpp"
#include "ip2p/train/loss_weight.hpp"
#include "ip2p/train/precision.hpp"
#include "ip2p/train/training_levels.hpp"
#include "ip2p/train/training_loss.hpp"
#include "ip2p/train/training_target.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p {

/// Settings of `DiffusionLoss`.
struct DiffusionLossOptions {
  std::int64_t batch = 32;              ///< Samples per update, over all processes.
  std::uint64_t seed = 0;               ///< Of everything random.
  double scaling_factor = 0.18215;      ///< Of the target latents; the condition stays unscaled.
  at::ScalarType compute = at::kFloat;  ///< kBFloat16 or kHalf: autocast convolutions and matrix products.
};

/// One batch of network inputs and targets.
struct NoisyBatch {
  at::Tensor input;      ///< [B,2C,h,w]: noisy target and condition; [B,C,h,w] without a condition.
  at::Tensor wanted;     ///< [B,C,h,w]: the target of the prediction.
  at::Tensor timesteps;  ///< [B], fp32: noise levels as passed to the network.
  at::Tensor weights;    ///< [B], fp32: weight of each sample's squared error; undefined if all are equal.
  std::vector<std::string> instructions;  ///< "" where dropped.
};

namespace detail {

/// Encodes U texts as context, [U,T,D].
using Encode = std::function<at::Tensor(std::span<const std::string>)>;

/// Wraps a `TextEncoder` or a function.
template <class Text>
Encode encode_with(Text text) {
  if constexpr (TextEncoder<Text>) {
    return [encoder = std::move(text)](std::span<const std::string> texts) { return encoder.encode(texts); };
  } else {
    static_assert(std::is_invocable_r_v<at::Tensor, Text&, std::span<const std::string>>,
                  "ip2p: DiffusionLoss needs a TextEncoder, or a function `Tensor(std::span<const std::string>)`; see "
                  "docs/reference/concepts.md#textencoder");
    if constexpr (std::is_invocable_r_v<at::Tensor, Text&, std::span<const std::string>>) return text;
  }
}

}  // namespace detail

/// Mean squared error of a network's prediction (for noise: Ho et al. 2020, eq. 14) with InstructPix2Pix's
/// conditioning: target = sample of the posterior times the scaling factor, condition = unscaled mode of the posterior.
/// A network with as many input as output channels is trained without a condition, from captions (text-to-image).
///
/// A `PredictionPolicy` defines what the network predicts, a `TrainingLevelsPolicy` the noise levels, a
/// `LossWeightPolicy` their weights. The first two belong to the model: to train a model further, use those that it was
/// trained with.
///
/// \code
/// const ip2p::DiffusionLoss loss(unet, encoder, pairs, ip2p::UniformTimesteps{}, ip2p::EpsPrediction{},
///                                {.batch = 32}); \endcode
///
/// Everything random - order, phrasing, dropout, noise level, noise - is a function of (seed, step, sample).
template <class Network, class Source, class Levels, class Prediction, class Dropout = ConditioningDropout,
          class Weight = UniformWeight>
class DiffusionLoss {
  static_assert((require_trainable_network<Network>(), true));
  static_assert((require_pair_source<Source>(), true));
  static_assert((require_training_levels<Levels>(), true));
  static_assert((require_prediction_policy<Prediction>(), true));
  static_assert((require_dropout_policy<Dropout>(), true));
  static_assert((require_loss_weight_policy<Weight>(), true));

 public:
  /// \param text a `TextEncoder`, or a function from texts to their context [U,T,D]; must keep its graph if it is
  ///   trained too
  /// \param source kept by reference; read from several threads if parts are computed or prefetched in several
  /// \throws Error for a batch below 1
  template <class Text>
  DiffusionLoss(Network network, Text text, Source& source, Levels levels, Prediction prediction,
                DiffusionLossOptions options = {}, Dropout dropout = {}, Weight weight = {})
      : network_(std::move(network)),
        encode_(detail::encode_with(std::move(text))),
        source_(&source),
        levels_(std::move(levels)),
        prediction_(std::move(prediction)),
        options_(options),
        dropout_(std::move(dropout)),
        weight_(std::move(weight)),
        orders_(options.seed) {
    require(options_.batch > 0, "training batch: expected at least 1, found {}", options_.batch);
  }

  /// As given.
  [[nodiscard]] const DiffusionLossOptions& options() const { return options_; }

  /// Dtype of the forward pass; tells a `Trainer` whether the loss must be scaled.
  [[nodiscard]] at::ScalarType compute() const { return options_.compute; }

  /// The `part`-th of `parts` equal parts of update `step`'s batch. May be called from several threads if the source's
  /// `get` may.
  /// For a network on a GPU what `loss` copies there is pinned, so that those copies wait for nothing.
  [[nodiscard]] NoisyBatch batch(std::int64_t step, std::int64_t part = 0, std::int64_t parts = 1) const {
    const at::NoGradGuard no_grad;
    require(parts > 0 && options_.batch % parts == 0, "training batch: expected a multiple of {} parts, found {}",
            parts, options_.batch);
    const std::int64_t count = options_.batch / parts;
    const std::int64_t first = part * count;
    const bool conditioned = network_.in_channels() > network_.out_channels();
    std::vector<at::Tensor> means, logvars, conditions;
    std::vector<float> timesteps, input_clean, input_noise, wanted_clean, wanted_noise, weights;
    std::vector<Dropped> drops;
    std::vector<std::int64_t> places;
    std::vector<SampleRandom> randoms;
    NoisyBatch result;
    for (std::int64_t b = first; b < first + count; ++b) {
      SampleRandom random(options_.seed, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(b));
      const TrainingLevel level = levels_.draw(random);
      const Dropped dropped = dropout_.drop(random.uniform());
      drops.push_back(dropped);
      places.push_back(orders_.item(step * options_.batch + b, source_->size()));
      randoms.push_back(random);
      timesteps.push_back(static_cast<float>(level.timestep));
      const auto target = detail::training_target(prediction_, level);
      input_clean.push_back(static_cast<float>(target.input.clean));
      input_noise.push_back(static_cast<float>(target.input.noise));
      wanted_clean.push_back(static_cast<float>(target.wanted.clean));
      wanted_noise.push_back(static_cast<float>(target.wanted.noise));
      if (weighed) weights.push_back(weight_of(level));
    }
    auto pairs = detail::pairs_of(*source_, places, randoms);
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      means.push_back(pairs[i].target_mean);
      logvars.push_back(pairs[i].target_logvar);
      const auto& condition = pairs[i].condition;
      if (conditioned) conditions.push_back(drops[i].image ? at::zeros_like(condition) : condition);
      result.instructions.push_back(drops[i].text ? std::string() : std::move(pairs[i].instruction));
    }
    const auto mean = at::stack(means);  // where the source's pairs are
    const auto beside = [&](const at::Tensor& values) { return detail::to_device(values, mean.device()); };
    const auto column = [&](const std::vector<float>& values) {
      return beside(at::tensor(values).view({-1, 1, 1, 1}));
    };
    const CounterNoise source(options_.seed, static_cast<std::uint32_t>(first));
    const auto target = (mean + at::exp(0.5 * at::stack(logvars)) * beside(source.normal(mean.sizes(), 2 * step))) *
                        options_.scaling_factor;
    const auto noise = beside(source.normal(mean.sizes(), 2 * step + 1));
    result.input = target * column(input_clean) + noise * column(input_noise);
    if (conditioned) result.input = at::cat({result.input, at::stack(conditions)}, 1);
    result.wanted = target * column(wanted_clean) + noise * column(wanted_noise);
    result.timesteps = at::tensor(timesteps);
    if (weighed) result.weights = at::tensor(weights);
    for (auto* tensor : {&result.input, &result.wanted, &result.timesteps, &result.weights}) {
      *tensor = detail::pinned_for(*tensor, network_.device());
    }
    return result;
  }

  /// Mean loss of a part of update `step`'s batch, a scalar with its graph.
  at::Tensor operator()(std::int64_t step, std::int64_t part = 0, std::int64_t parts = 1) const {
    return loss(batch(step, part, parts));
  }

  /// Loss of a given batch. \throws Error when the prediction has another shape
  [[nodiscard]] at::Tensor loss(const NoisyBatch& batch) const {
    // Instructions repeat within a batch, so each is encoded once.
    std::vector<std::string> unique;
    std::map<std::string, std::int64_t> places;
    std::vector<std::int64_t> rows;
    for (const auto& instruction : batch.instructions) {
      const auto [place, fresh] = places.emplace(instruction, static_cast<std::int64_t>(unique.size()));
      if (fresh) unique.push_back(instruction);
      rows.push_back(place->second);
    }
    const at::Device device = network_.device();
    benchmark_convolutions(device);
    const Autocast autocast(device.type(), options_.compute);
    auto context = encode_(unique);
    if (unique.size() < rows.size()) {
      context = at::index_select(context, 0, detail::to_device(at::tensor(rows), context.device()));
    }
    const auto placed = [&](const at::Tensor& tensor) { return detail::to_device(tensor, device); };
    const at::Tensor predicted = network_(placed(batch.input), placed(batch.timesteps), placed(context));
    const auto wanted = placed(batch.wanted);
    require(predicted.sizes() == wanted.sizes(), "network: expected a prediction of the shape {}, found {}",
            shape_text(wanted.sizes()), shape_text(predicted.sizes()));
    if (!batch.weights.defined()) return at::mse_loss(predicted.to(at::kFloat), wanted);
    const auto errors = at::mse_loss(predicted.to(at::kFloat), wanted, at::Reduction::None).mean({1, 2, 3});
    return (errors * placed(batch.weights)).mean();
  }

 private:
  static constexpr bool weighed = !std::same_as<Weight, UniformWeight>;

  /// \throws Error unless the policy gives a finite weight that is not negative
  [[nodiscard]] float weight_of(const TrainingLevel& level) const {
    const double snr = level.alpha_bar / (1.0 - level.alpha_bar);
    const double weight = weight_(snr, prediction_.preconditioning(level.sigma));
    require(std::isfinite(weight) && weight >= 0.0, "loss weight: expected a finite weight >= 0 at snr {}, found {}",
            snr, weight);
    return static_cast<float>(weight);
  }

  Network network_;
  detail::Encode encode_;
  Source* source_;
  Levels levels_;
  Prediction prediction_;
  DiffusionLossOptions options_;
  Dropout dropout_;
  Weight weight_;
  EpochOrders orders_;
};

}  // namespace ip2p
