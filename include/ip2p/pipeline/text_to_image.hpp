#pragma once

/// \file
/// Text-to-image with a latent diffusion model (Rombach et al. 2022); also the pipeline that several edits build on.

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/pipeline/latent_pipeline.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"

namespace ip2p {

/// Generates pictures from prompts with a text encoder, a codec and a UNet without an image input. `sdedit`,
/// `two_pass`, `latent_walk`, `invert`, `prompt_to_prompt` and `PairGenerator` use it. `open_text_to_image` builds one
/// from a model's files.
template <class Encoder, class Codec, class Network, class ModelDiffusion = detail::NoDiffusion,
          class Sampler = EulerAncestral, class Guidance = TextGuidance>
class TextToImagePipeline : public LatentPipeline<Encoder, Codec, Network, ModelDiffusion, Sampler, Guidance> {
  using Base = LatentPipeline<Encoder, Codec, Network, ModelDiffusion, Sampler, Guidance>;

 public:
  /// Runs take 50 steps by default.
  /// \throws Error when the UNet's input channels differ from the latents'
  TextToImagePipeline(Encoder text_encoder, Codec codec, Network unet, ModelDiffusion diffusion, Sampler sampler = {},
                      Guidance guidance = {})
      : Base(std::move(text_encoder), std::move(codec), std::move(unet), std::move(diffusion), std::move(sampler),
             std::move(guidance)) {
    const auto channels = this->codec().latent_channels();
    const auto found = this->unet().in_channels();
    require(found == channels, "TextToImagePipeline: expected a UNet with {} input channels, found {}{}", channels,
            found,
            found == 2 * channels       ? ": this is an InstructPix2Pix model, use EditPipeline"
            : found == 2 * channels + 1 ? ": this is an inpainting model, use InpaintPipeline"
                                        : "");
  }

  /// Never compiles; explains what is missing (`require_diffusion`).
  TextToImagePipeline(Encoder text_encoder, Codec codec,
                      Network unet) requires std::same_as<ModelDiffusion, detail::NoDiffusion>;

  /// Generates one picture.
  /// \throws Error for settings out of range, non-finite or constant results; Cancelled
  [[nodiscard]] Image operator()(const std::string& prompt, const RunSettings& settings = {}) const {
    return std::move(run({&prompt, 1}, settings).images.front());
  }

  /// Generates one picture per prompt. Noise is torch's, from the settings' seeds.
  [[nodiscard]] PipelineResult run(std::span<const std::string> prompts, const RunSettings& settings = {}) const {
    require(!prompts.empty(), "prompts: expected at least one, found none");
    TorchNoise noise(seeds_for(prompts.size(), settings.seed, settings.seeds));
    return run(prompts, settings, noise);
  }

  /// The same with your own noise source and attention policy; the settings' seeds are ignored.
  template <class Noise, class Attention = PlainAttention>
  [[nodiscard]] PipelineResult run(std::span<const std::string> prompts, const RunSettings& settings, Noise& noise,
                                   const Attention& attention = {}) const {
    PipelineResult result;
    result.latents = sample(prompts, settings, noise, attention).to(at::kCPU);
    result.images = this->decode(result.latents, rounding_of(*this->completed(settings).numerics));
    return result;
  }

  /// The low-level form: returns latents. \return [B,C,h,w], fp32, times `scaling_factor()`
  template <class Noise, class Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample(std::span<const std::string> prompts, const RunSettings& settings, Noise& noise,
                                  const Attention& attention = {}) const {
    const auto options = this->completed(settings);
    const auto sigmas = this->diffusion.schedule.sigmas(*options.steps);
    auto conditioning = this->encode_text(prompts, options.negative_prompt);
    const auto shape = this->latent_shape(static_cast<std::int64_t>(prompts.size()), picture_size(options));
    const auto start = this->start_noise(options, shape, noise);
    return this->denoise(start.mul(initial_sigma(this->diffusion.schedule, sigmas)), sigmas, std::move(conditioning),
                         noise, options.hooks, attention);
  }
};

}  // namespace ip2p
