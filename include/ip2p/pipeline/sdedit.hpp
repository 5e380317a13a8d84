#pragma once

/// \file
/// SDEdit: guided image synthesis with stochastic differential equations (Meng et al. 2022), in latent space.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/pipeline/latent_pipeline.hpp"

namespace ip2p {

/// Numbers of one run of `sdedit`.
struct SdEditOptions {
  double strength = 0.8;                  ///< In [0, 1]: share of the steps that are run; 1 keeps nothing of the photo.
  std::int64_t steps = 50;                ///< Of the whole schedule, >= 1; int(strength * steps) of them are run.
  std::uint64_t seed = 42;                ///< Picture i of a batch draws its noise from seed + i.
  std::vector<std::uint64_t> seeds = {};  ///< One per picture instead of `seed`; may be empty.
  std::string negative_prompt = {};
  std::optional<std::int64_t> resolution = {};  ///< Long side in pixels; see `edit_size`.
  bool posterior_sample = true;                 ///< Noise a sample of the codec's posterior, as published, or its mean.
  Numerics numerics = Numerics::released;
  RunHooks hooks = {};
};

/// Steps of a schedule of `steps` that remain when it is entered at `strength`: min(int(strength * steps), steps).
/// Reference: the released latent diffusion's `t_enc`, diffusers' `get_timesteps`.
/// \throws Error unless strength is in [0, 1] and at least one step remains
inline std::int64_t steps_for_strength(double strength, std::int64_t steps) {
  require(strength >= 0.0 && strength <= 1.0, "strength: expected a value in [0, 1], found {}", strength);
  const auto remaining = static_cast<std::int64_t>(strength * static_cast<double>(steps));
  require(remaining >= 1, "strength: expected at least 1 of {} steps to run, found {} at strength {}", steps, remaining,
          strength);
  return remaining;
}

/// The expert form: noises `clean` to the level where int(strength * steps) steps remain, and denoises from there.
/// \param clean [B,C,h,w], times the scaling factor  \return the same shape, fp32
template <class Pipeline, SchedulePolicy Schedule, NoiseSource Noise, AttentionPolicy Attention = PlainAttention>
[[nodiscard]] at::Tensor sdedit_latents(Pipeline& pipeline, const at::Tensor& clean,
                                        std::span<const std::string> prompts, const SdEditOptions& options,
                                        const Schedule& schedule, Noise& noise, const Attention& attention = {}) {
  const auto sigmas = schedule.sigmas(options.steps);
  const auto remaining = static_cast<std::size_t>(steps_for_strength(options.strength, options.steps));
  const auto tail = std::span(sigmas).last(remaining + 1);
  const auto start = noise.normal(clean.sizes(), 0).to(clean.options());
  return pipeline.denoise(clean.add(start, tail.front()), tail, pipeline.encode_text(prompts, options.negative_prompt),
                          schedule, noise, options.hooks, attention);
}

/// Redraws photographs after a text: the photo decides the layout, the prompt the rest.
/// \param pipeline a `TextToImagePipeline`  \param photos one for all prompts, or one each
/// \throws Error for options out of range, non-finite or constant results; Cancelled
template <class Pipeline>
[[nodiscard]] PipelineResult sdedit(Pipeline& pipeline, std::span<const Image> photos,
                                    std::span<const std::string> prompts, const SdEditOptions& options = {}) {
  require(photos.size() == 1 || photos.size() == prompts.size(),
          "sdedit: expected one photograph for all prompts or one each, found {} and {}", photos.size(),
          prompts.size());
  const auto schedule = default_schedule(options.numerics, pipeline.scheduler);
  TorchNoise noise(seeds_for(prompts.size(), options.seed, options.seeds));
  const auto rows = static_cast<std::int64_t>(prompts.size());
  const auto pictures = prepare_photos(photos, options.resolution, options.numerics);
  const auto shape = pipeline.latent_shape(rows, pictures.size(3), pictures.size(2));
  // The posterior's noise is drawn first, as the published programs do; its number lies beyond those of the steps.
  const auto clean =
      (options.posterior_sample ? pipeline.clean_latents(pictures, noise.normal(shape, options.steps + 1))
                                : pipeline.clean_latents(pictures))
          .expand(shape);
  PipelineResult result;
  result.latents = sdedit_latents(pipeline, clean, prompts, options, schedule, noise).to(at::kCPU);
  result.images = pipeline.decode(result.latents, options.numerics);
  return result;
}

/// One picture.
template <class Pipeline>
[[nodiscard]] Image sdedit(Pipeline& pipeline, const Image& photo, const std::string& prompt,
                           const SdEditOptions& options = {}) {
  return std::move(sdedit(pipeline, std::span(&photo, 1), std::span(&prompt, 1), options).images.front());
}

}  // namespace ip2p
