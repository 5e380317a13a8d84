#pragma once

/// \file
/// InstructPix2Pix: edit a photograph by a written instruction (Brooks, Holynski and Efros, 2023).

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/pipeline/latent_pipeline.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"

namespace ip2p {

/// Numbers of one edit. The defaults are those of the released program.
struct EditOptions {
  std::int64_t steps = 100;               ///< Evaluations of the denoiser, >= 1.
  std::uint64_t seed = 42;                ///< Picture i of a batch draws its noise from seed + i.
  std::vector<std::uint64_t> seeds = {};  ///< One per picture instead of `seed`; may be empty.
  std::string negative_prompt = {};       ///< Stands for the empty text in the branches without the instruction.
  /// Long side in pixels. Unset: 512 for `released`, the picture's own size for `diffusers`.
  std::optional<std::int64_t> resolution = {};
  Numerics numerics = Numerics::released;
  at::Tensor latents = {};  ///< Start noise of unit variance, [B,C,h,w]; drawn from the seeds when undefined.
  RunHooks hooks = {};      ///< Progress and cancellation.
};

/// The editor: text encoder, codec and UNet hold the weights, sampler and guidance the algorithm; this only composes.
template <TextEncoder Encoder, ImageCodec Codec, DenoisingNetwork Network, SamplerPolicy Sampler = EulerAncestral,
          GuidancePolicy Guidance = DualGuidance>
class EditPipeline : public LatentPipeline<Encoder, Codec, Network, Sampler, Guidance> {
 public:
  /// \throws Error when the UNet's input channels are not latents plus image latents
  EditPipeline(Encoder text_encoder, Codec codec, Network unet, Sampler sampler = {}, Guidance guidance = {},
               SchedulerConfig scheduler = {})
      : LatentPipeline<Encoder, Codec, Network, Sampler, Guidance>(std::move(text_encoder), std::move(codec),
                                                                   std::move(unet), std::move(sampler),
                                                                   std::move(guidance), std::move(scheduler)) {
    const auto channels = this->codec().latent_channels();
    const auto found = this->unet().in_channels();
    require(found == 2 * channels,
            "EditPipeline: expected a UNet with {} input channels (noisy latents and image latents), found {}{}",
            2 * channels, found,
            found == channels ? ": this is a text-to-image model, not an InstructPix2Pix model" : "");
  }

  /// Edits one picture.
  /// \throws Error for options out of range, non-finite or constant results; Cancelled
  [[nodiscard]] Image operator()(const Image& photo, const std::string& instruction, const EditOptions& options = {}) {
    return std::move(run({&photo, 1}, {&instruction, 1}, options).images.front());
  }

  /// Edits a batch: one picture for all instructions, one instruction for all pictures, or one each. Pictures must
  /// come to one size.
  [[nodiscard]] PipelineResult run(std::span<const Image> photos, std::span<const std::string> instructions,
                                   const EditOptions& options = {}) {
    require(!photos.empty() && !instructions.empty(),
            "EditPipeline: expected pictures and instructions, found {} and {}", photos.size(), instructions.size());
    const auto images = prepare(photos, options);
    TorchNoise noise(seeds_for(std::max(photos.size(), instructions.size()), options.seed, options.seeds));
    PipelineResult result;
    const auto schedule = default_schedule(options.numerics, this->scheduler);
    result.latents = sample(images, instructions, options, schedule, noise).to(at::kCPU);
    result.images = this->decode(result.latents, options.numerics);
    return result;
  }

  /// Resized and centre-cropped pictures as [B,3,H,W], fp32 in [-1,1].
  [[nodiscard]] at::Tensor prepare(std::span<const Image> photos, const EditOptions& options = {}) const {
    return prepare_photos(photos, options.resolution, options.numerics);
  }

  /// The expert form: any schedule, noise source and attention edit, latents out.
  ///
  /// \param images [B,3,H,W] in [-1,1], sides multiples of the codec's `downscale()`
  /// \return latents [B,C,H/f,W/f], fp32, times `scaling_factor()`
  template <SchedulePolicy Schedule, NoiseSource Noise, AttentionPolicy Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample(const at::Tensor& images, std::span<const std::string> instructions,
                                  const EditOptions& options, const Schedule& schedule, Noise& noise,
                                  const Attention& attention = {}) {
    options.hooks.check({.index = 0, .count = options.steps});
    return sample_latents(this->encode_images(images), instructions, options, schedule, noise, attention);
  }

  /// The same for pictures that are encoded already. \param image_latents [B,C,h,w], unscaled
  template <SchedulePolicy Schedule, NoiseSource Noise, AttentionPolicy Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample_latents(const at::Tensor& image_latents, std::span<const std::string> instructions,
                                          const EditOptions& options, const Schedule& schedule, Noise& noise,
                                          const Attention& attention = {}) {
    const auto channels = this->codec().latent_channels();
    require(image_latents.dim() == 4 && image_latents.size(1) == channels,
            "EditPipeline: image latents: expected [B,{},h,w], found {}", channels, shape_text(image_latents.sizes()));
    const auto sigmas = schedule.sigmas(options.steps);
    const auto pictures = static_cast<std::size_t>(image_latents.size(0));
    const auto batch = std::max(pictures, instructions.size());
    require((pictures == 1 || pictures == batch) && (instructions.size() == 1 || instructions.size() == batch),
            "EditPipeline: expected as many instructions as pictures or one for all, found {} and {}",
            instructions.size(), pictures);
    std::vector<std::string> prompts;
    for (std::size_t i = 0; i < batch; ++i) prompts.push_back(instructions[instructions.size() == 1 ? 0 : i]);
    auto conditioning = this->encode_text(prompts, options.negative_prompt);

    const auto rows = static_cast<std::int64_t>(batch);
    conditioning.image = image_latents.expand({rows, -1, -1, -1});
    const auto shape = conditioning.image.sizes().vec();
    const auto start = options.latents.defined() ? options.latents : noise.normal(shape, 0);
    require(start.sizes() == at::IntArrayRef(shape), "latents: expected {}, found {}", shape_text(shape),
            shape_text(start.sizes()));
    return this->denoise(start.to(at::kFloat).mul(initial_sigma(schedule, sigmas)), sigmas, std::move(conditioning),
                         schedule, noise, options.hooks, attention);
  }
};

}  // namespace ip2p
