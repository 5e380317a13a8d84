#pragma once

/// \file
/// SDEdit: guided image synthesis with stochastic differential equations (Meng et al. 2022), in latent space.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "ip2p/pipeline/latent_pipeline.hpp"

namespace ip2p {

/// Options of `sdedit` in addition to the run's settings.
struct SdEditOptions {
  double strength = 0.8;         ///< In [0, 1]: fraction of the steps to run; 1 keeps nothing of the photo.
  bool posterior_sample = true;  ///< Start from a sample of the codec's posterior, as published, or from its mean.
};

/// Number of steps that remain of a schedule of `steps` entered at `strength`: min(int(strength * steps), steps).
/// Reference: the released latent diffusion's `t_enc`, diffusers' `get_timesteps`.
/// \throws Error unless strength is in [0, 1] and at least one step remains
inline std::int64_t steps_for_strength(double strength, std::int64_t steps) {
  require(strength >= 0.0 && strength <= 1.0, "strength: expected a value in [0, 1], found {}", strength);
  const auto remaining = static_cast<std::int64_t>(strength * static_cast<double>(steps));
  require(remaining >= 1, "strength: expected at least 1 of {} steps to run, found {} at strength {}", steps, remaining,
          strength);
  return remaining;
}

/// The low-level form: adds noise to `clean` up to the level where int(strength * steps) steps remain, and denoises
/// from there.
/// \param clean [B,C,h,w], times the scaling factor  \return the same shape, fp32
template <class Pipeline, class Noise, class Attention = PlainAttention>
[[nodiscard]] at::Tensor sdedit_latents(const Pipeline& pipeline, const at::Tensor& clean,
                                        std::span<const std::string> prompts, double strength,
                                        const RunSettings& settings, Noise& noise, const Attention& attention = {}) {
  const auto options = pipeline.completed(settings);
  const auto sigmas = pipeline.diffusion.schedule.sigmas(*options.steps);
  const auto remaining = static_cast<std::size_t>(steps_for_strength(strength, *options.steps));
  const auto tail = std::span(sigmas).last(remaining + 1);
  const auto start = pipeline.start_noise(options, clean.sizes(), noise).to(clean.options());
  return pipeline.denoise(clean.add(start, tail.front()), tail, pipeline.encode_text(prompts, options.negative_prompt),
                          noise, options.hooks, attention);
}

/// Redraws photographs from a prompt: the photo determines the layout, the prompt the rest.
/// \param pipeline a `TextToImagePipeline`  \param photos one for all prompts, or one each
/// \throws Error for settings out of range, non-finite or constant results; Cancelled
template <class Pipeline, class Noise, class Attention = PlainAttention>
[[nodiscard]] PipelineResult sdedit(const Pipeline& pipeline, std::span<const Image> photos,
                                    std::span<const std::string> prompts, const SdEditOptions& edit,
                                    const RunSettings& settings, Noise& noise, const Attention& attention = {}) {
  require(photos.size() == 1 || photos.size() == prompts.size(),
          "sdedit: expected one photograph for all prompts or one each, found {} and {}", photos.size(),
          prompts.size());
  const auto options = pipeline.completed(settings);
  const auto pictures = prepare_photos(photos, options.resolution, *options.numerics);
  const auto shape = pipeline.latent_shape(static_cast<std::int64_t>(prompts.size()),
                                           {.width = pictures.size(3), .height = pictures.size(2)});
  // The posterior's noise is drawn first, as in the published programs; its draw number lies beyond those of the steps.
  const auto clean = (edit.posterior_sample ? pipeline.clean_latents(pictures, noise.normal(shape, *options.steps + 1))
                                            : pipeline.clean_latents(pictures))
                         .expand(shape);
  PipelineResult result;
  result.latents = sdedit_latents(pipeline, clean, prompts, edit.strength, options, noise, attention).to(at::kCPU);
  result.images = pipeline.decode(result.latents, rounding_of(*options.numerics));
  return result;
}

/// The same with torch's noise, from the settings' seeds.
template <class Pipeline>
[[nodiscard]] PipelineResult sdedit(const Pipeline& pipeline, std::span<const Image> photos,
                                    std::span<const std::string> prompts, const SdEditOptions& edit = {},
                                    const RunSettings& settings = {}) {
  TorchNoise noise(seeds_for(prompts.size(), settings.seed, settings.seeds));
  return sdedit(pipeline, photos, prompts, edit, settings, noise);
}

/// One picture.
template <class Pipeline>
[[nodiscard]] Image sdedit(const Pipeline& pipeline, const Image& photo, const std::string& prompt,
                           const SdEditOptions& edit = {}, const RunSettings& settings = {}) {
  return std::move(sdedit(pipeline, std::span(&photo, 1), std::span(&prompt, 1), edit, settings).images.front());
}

}  // namespace ip2p
