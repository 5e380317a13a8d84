#pragma once

/// \file
/// Text to image with a latent diffusion model (Rombach et al. 2022), and the pipeline that edits build on.

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/pipeline/latent_pipeline.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"

namespace ip2p {

/// Numbers of one run.
struct TextToImageOptions {
  std::int64_t steps = 50;                ///< >= 1.
  std::uint64_t seed = 42;                ///< Picture i of a batch draws its noise from seed + i.
  std::vector<std::uint64_t> seeds = {};  ///< One per picture instead of `seed`; may be empty.
  std::string negative_prompt = {};       ///< Stands for the empty text in the branch without the prompt.
  std::int64_t width = 512;               ///< In pixels, a multiple of the codec's `downscale()`.
  std::int64_t height = 512;
  Numerics numerics = Numerics::released;
  at::Tensor latents = {};  ///< Start noise of unit variance, [B,C,h,w]; drawn from the seeds when undefined.
  RunHooks hooks = {};      ///< Progress, cancellation, changes between steps.
};

/// Pictures from prompts: text encoder, codec and a UNet without an image input. `sdedit`, `inpaint`, `invert`,
/// `prompt_to_prompt` and `PairGenerator` work over it.
template <TextEncoder Encoder, ImageCodec Codec, DenoisingNetwork Network, SamplerPolicy Sampler = EulerAncestral,
          GuidancePolicy Guidance = TextGuidance>
class TextToImagePipeline : public LatentPipeline<Encoder, Codec, Network, Sampler, Guidance> {
 public:
  /// \throws Error when the UNet's input channels are not those of the latents
  TextToImagePipeline(Encoder text_encoder, Codec codec, Network unet, Sampler sampler = {}, Guidance guidance = {},
                      SchedulerConfig scheduler = {})
      : LatentPipeline<Encoder, Codec, Network, Sampler, Guidance>(std::move(text_encoder), std::move(codec),
                                                                   std::move(unet), std::move(sampler),
                                                                   std::move(guidance), std::move(scheduler)) {
    const auto channels = this->codec().latent_channels();
    const auto found = this->unet().in_channels();
    require(found == channels, "TextToImagePipeline: expected a UNet with {} input channels, found {}{}", channels,
            found,
            found == 2 * channels       ? ": this is an InstructPix2Pix model, use EditPipeline"
            : found == 2 * channels + 1 ? ": this is an inpainting model, use InpaintPipeline"
                                        : "");
  }

  /// One picture.
  /// \throws Error for options out of range, non-finite or constant results; Cancelled
  [[nodiscard]] Image operator()(const std::string& prompt, const TextToImageOptions& options = {}) {
    return std::move(run({&prompt, 1}, options).images.front());
  }

  /// One picture for each prompt.
  [[nodiscard]] PipelineResult run(std::span<const std::string> prompts, const TextToImageOptions& options = {}) {
    require(!prompts.empty(), "prompts: expected at least one, found none");
    TorchNoise noise(seeds_for(prompts.size(), options.seed, options.seeds));
    PipelineResult result;
    const auto schedule = default_schedule(options.numerics, this->scheduler);
    result.latents = sample(prompts, options, schedule, noise).to(at::kCPU);
    result.images = this->decode(result.latents, options.numerics);
    return result;
  }

  /// The expert form: any schedule, noise source and attention edit, latents out.
  /// \return latents [B,C,h,w], fp32, times `scaling_factor()`
  template <SchedulePolicy Schedule, NoiseSource Noise, AttentionPolicy Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample(std::span<const std::string> prompts, const TextToImageOptions& options,
                                  const Schedule& schedule, Noise& noise, const Attention& attention = {}) {
    const auto sigmas = schedule.sigmas(options.steps);
    auto conditioning = this->encode_text(prompts, options.negative_prompt);
    const auto shape = this->latent_shape(static_cast<std::int64_t>(prompts.size()), options.width, options.height);
    const auto start = options.latents.defined() ? options.latents : noise.normal(shape, 0);
    require(start.sizes() == at::IntArrayRef(shape), "latents: expected {}, found {}", shape_text(shape),
            shape_text(start.sizes()));
    return this->denoise(start.to(at::kFloat).mul(initial_sigma(schedule, sigmas)), sigmas, std::move(conditioning),
                         schedule, noise, options.hooks, attention);
  }
};

}  // namespace ip2p
