#pragma once

/// \file
/// Archetypes of models and of the parts of training: types that satisfy one concept and offer nothing else. A template
/// that compiles with them requires no more than its concept promises.

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/text/concepts.hpp"
#include "ip2p/train/dropout.hpp"
#include "ip2p/train/learning_rate.hpp"
#include "ip2p/train/loss_weight.hpp"
#include "ip2p/unet/concepts.hpp"

namespace ip2p::testing {

/// Minimal `PredictionPolicy`: predicts noise. No default constructor, no assignment.
class PredictionArchetype {
 public:
  /// Takes a number only so as not to have a default constructor.
  explicit PredictionArchetype(int /*unused*/) {}
  PredictionArchetype(const PredictionArchetype&) = default;
  PredictionArchetype& operator=(const PredictionArchetype&) = delete;
  /// As `EpsPrediction`.
  [[nodiscard]] Preconditioning preconditioning(double sigma) const {
    return {.c_in = 1.0 / std::sqrt(sigma * sigma + 1.0), .c_skip = 1.0, .c_out = -sigma};
  }
};

/// Minimal `ImageCodec`: means of blocks of pixels. No weights to move, no posterior, no default constructor, no
/// assignment.
class CodecArchetype {
 public:
  /// \param downscale side of a block
  explicit CodecArchetype(std::int64_t downscale) : downscale_(downscale) {}
  CodecArchetype(const CodecArchetype&) = default;
  CodecArchetype& operator=(const CodecArchetype&) = delete;
  /// Means of blocks: [B,3,H,W] -> [B,3,H/f,W/f].
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const {
    return at::avg_pool2d(images, {downscale_, downscale_}, {downscale_, downscale_});
  }
  /// Each mean all over its block: [B,3,h,w] -> [B,3,f*h,f*w].
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const {
    return latents.repeat_interleave(downscale_, 2).repeat_interleave(downscale_, 3);
  }
  /// 0.5, so that it cannot be left out unnoticed.
  [[nodiscard]] double scaling_factor() const { return 0.5; }
  /// Side of a block.
  [[nodiscard]] std::int64_t downscale() const { return downscale_; }
  /// 3, as pictures have.
  [[nodiscard]] std::int64_t latent_channels() const { return 3; }

 private:
  const std::int64_t downscale_;
};

/// Minimal `TextEncoder`: a row of numbers for each of the first tokens' letters. No default constructor, no
/// assignment.
class TextEncoderArchetype {
 public:
  /// \param tokens rows of a text  \param width numbers of a row
  TextEncoderArchetype(std::int64_t tokens, std::int64_t width) : tokens_(tokens), width_(width) {}
  TextEncoderArchetype(const TextEncoderArchetype&) = default;
  TextEncoderArchetype& operator=(const TextEncoderArchetype&) = delete;
  /// [B, tokens, width], each text's numbers a function of its letters.
  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const {
    std::vector<at::Tensor> rows;
    for (const auto& prompt : prompts) {
      std::uint64_t seed = 0;
      for (const unsigned char letter : prompt) seed = seed * 31 + letter;
      rows.push_back(CounterNoise(seed).normal({tokens_, width_}, 0));
    }
    return at::stack(rows);
  }

 private:
  const std::int64_t tokens_, width_;
};

/// Minimal `DenoisingNetwork`: one self-attention of the pixels and one cross-attention to the text. No default
/// constructor, no assignment, nothing to train.
class NetworkArchetype {
 public:
  /// \param in_channels of latents plus conditioning  \param out_channels of the prediction, <= in_channels; texts are
  ///   at least as wide as there are input channels
  NetworkArchetype(std::int64_t in_channels, std::int64_t out_channels)
      : in_channels_(in_channels), out_channels_(out_channels) {}
  NetworkArchetype(const NetworkArchetype&) = default;
  NetworkArchetype& operator=(const NetworkArchetype&) = delete;

  /// One tensor [B,1,1,1].
  [[nodiscard]] TimeProjections project_time(const at::Tensor& timesteps) const {
    return {timesteps.to(at::kFloat).add(1.0).log().mul(0.1).view({-1, 1, 1, 1})};
  }
  /// Keys and values of the one layer.
  [[nodiscard]] ContextProjections project_context(const at::Tensor& context) const {
    const auto text = context.to(at::kFloat).narrow(2, 0, in_channels_).unsqueeze(1);
    return {{text, text.mul(0.5)}};
  }
  /// x [B,in_channels,h,w] -> [B,out_channels,h,w].
  template <class Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend, const Step& step) const {
    const auto height = x.size(2), width = x.size(3);
    auto pixels = x.add(times.at(0)).flatten(2).transpose(1, 2).unsqueeze(1);  // [B,1,h*w,C]
    AttentionSite site{.cross = false, .layer = 0, .height = height, .width = width, .step = step};
    pixels = pixels.add(attend(site, pixels, pixels, pixels));
    site.cross = true;
    pixels = pixels.add(attend(site, pixels, texts.at(0).keys, texts.at(0).values));
    return pixels.squeeze(1).transpose(1, 2).unflatten(2, {height, width}).narrow(1, 0, out_channels_).tanh();
  }
  /// As constructed.
  [[nodiscard]] std::int64_t in_channels() const { return in_channels_; }
  /// The CPU.
  [[nodiscard]] at::Device device() const { return at::kCPU; }
  /// fp32.
  [[nodiscard]] at::ScalarType dtype() const { return at::kFloat; }

 private:
  const std::int64_t in_channels_, out_channels_;
};

/// Minimal `LearningRatePolicy`: no default constructor, no assignment.
class RateArchetype {
 public:
  /// \param rate of every update
  explicit RateArchetype(double rate) : rate_(rate) {}
  RateArchetype(const RateArchetype&) = default;
  RateArchetype& operator=(const RateArchetype&) = delete;
  /// The same for every update.
  double operator()(std::int64_t /*step*/) const { return rate_; }

 private:
  const double rate_;
};

/// Minimal `ConditioningDropoutPolicy`: no default constructor, no assignment.
class DropoutArchetype {
 public:
  /// Takes a number only so as not to have a default constructor.
  explicit DropoutArchetype(int /*unused*/) {}
  DropoutArchetype(const DropoutArchetype&) = default;
  DropoutArchetype& operator=(const DropoutArchetype&) = delete;
  /// Half of the samples lose the text.
  [[nodiscard]] Dropped drop(double u) const { return {.text = u < 0.5, .image = false}; }
};

/// Minimal `LossWeightPolicy`: no default constructor, no assignment.
class LossWeightArchetype {
 public:
  /// Takes a number only so as not to have a default constructor.
  explicit LossWeightArchetype(int /*unused*/) {}
  LossWeightArchetype(const LossWeightArchetype&) = default;
  LossWeightArchetype& operator=(const LossWeightArchetype&) = delete;
  /// 1 / (1 + snr).
  double operator()(double snr, const Preconditioning& /*prediction*/) const { return 1.0 / (1.0 + snr); }
};

/// Minimal `PairSource`: neither copied nor moved, and not const.
class PairSourceArchetype {
 public:
  /// \param channels, height, width of the latents
  PairSourceArchetype(std::int64_t channels, std::int64_t height, std::int64_t width)
      : shape_{channels, height, width} {}
  PairSourceArchetype(const PairSourceArchetype&) = delete;
  PairSourceArchetype& operator=(const PairSourceArchetype&) = delete;
  /// 3 pairs.
  std::int64_t size() { return 3; }
  /// Constant latents, a function of i and of one number drawn.
  EditPair get(std::int64_t i, SampleRandom& random) {
    const auto flat = [&](double value) { return at::full(shape_, value, at::kFloat); };
    return {flat(0.1 * static_cast<double>(i)), flat(-4.0), flat(random.uniform()), "instruction " + std::to_string(i)};
  }

 private:
  std::vector<std::int64_t> shape_;
};

static_assert(PredictionPolicy<PredictionArchetype> && ImageCodec<CodecArchetype> &&
              TextEncoder<TextEncoderArchetype> && DenoisingNetwork<NetworkArchetype> &&
              LearningRatePolicy<RateArchetype> && ConditioningDropoutPolicy<DropoutArchetype> &&
              LossWeightPolicy<LossWeightArchetype> && PairSource<PairSourceArchetype>);

}  // namespace ip2p::testing
