#pragma once

/// \file
/// InstructPix2Pix: edits a photograph by a written instruction (Brooks, Holynski and Efros, 2023).

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/pipeline/latent_pipeline.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"

namespace ip2p {

/// The editor. Text encoder, codec and UNet hold the weights; schedule, prediction, sampler and guidance hold the
/// algorithm; this class only composes them. `open_editor` builds one from a model's files.
///
/// \code
/// ip2p::EditPipeline edit{ip2p::load<ip2p::ClipTextEncoder>(files), ip2p::load<ip2p::KlAutoencoder>(files),
///                         ip2p::load<ip2p::UNet>(files), ip2p::diffusion_of(files), ip2p::EulerAncestral{},
///                         ip2p::DualGuidance{.image_scale = 1.5, .text_scale = 7.5}};
/// \endcode
template <class Encoder, class Codec, class Network, class ModelDiffusion = detail::NoDiffusion,
          class Sampler = EulerAncestral, class Guidance = DualGuidance>
class EditPipeline : public LatentPipeline<Encoder, Codec, Network, ModelDiffusion, Sampler, Guidance> {
  using Base = LatentPipeline<Encoder, Codec, Network, ModelDiffusion, Sampler, Guidance>;

 public:
  /// Runs take 100 steps by default, as in the released program.
  /// \throws Error when the UNet's input channels are not latents plus image latents
  EditPipeline(Encoder text_encoder, Codec codec, Network unet, ModelDiffusion diffusion, Sampler sampler = {},
               Guidance guidance = {})
      : Base(std::move(text_encoder), std::move(codec), std::move(unet), std::move(diffusion), std::move(sampler),
             std::move(guidance)) {
    this->defaults.steps = 100;
    const auto channels = this->codec().latent_channels();
    const auto found = this->unet().in_channels();
    require(found == 2 * channels,
            "EditPipeline: expected a UNet with {} input channels (noisy latents and image latents), found {}{}",
            2 * channels, found,
            found == channels ? ": this is a text-to-image model, not an InstructPix2Pix model" : "");
  }

  /// Never compiles; explains what is missing (`require_diffusion`).
  EditPipeline(Encoder text_encoder, Codec codec,
               Network unet) requires std::same_as<ModelDiffusion, detail::NoDiffusion>;

  /// Edits one picture. As in the released web demo, an empty instruction returns the resized photograph under
  /// `Numerics::released`.
  /// \throws Error for settings out of range, non-finite or constant results; Cancelled
  [[nodiscard]] Image operator()(const Image& photo, const std::string& instruction,
                                 const RunSettings& settings = {}) const {
    return std::move(run({&photo, 1}, {&instruction, 1}, settings).images.front());
  }

  /// Edits a batch: one picture for all instructions, one instruction for all pictures, or one each. All pictures must
  /// have the same size after resizing. Noise is torch's, from the settings' seeds.
  [[nodiscard]] PipelineResult run(std::span<const Image> photos, std::span<const std::string> instructions,
                                   const RunSettings& settings = {}) const {
    require_some(photos, instructions);
    TorchNoise noise(seeds_for(std::max(photos.size(), instructions.size()), settings.seed, settings.seeds));
    return run(photos, instructions, settings, noise);
  }

  /// The same with your own noise source and attention policy; the settings' seeds are ignored.
  template <class Noise, class Attention = PlainAttention>
  [[nodiscard]] PipelineResult run(std::span<const Image> photos, std::span<const std::string> instructions,
                                   const RunSettings& settings, Noise& noise, const Attention& attention = {}) const {
    require_some(photos, instructions);
    const auto options = this->completed(settings);
    const auto pictures = prepare(photos, options);
    const auto gives_back = [&](const std::string& instruction) {
      return instruction.empty() && options.negative_prompt.empty() && options.numerics == Numerics::released;
    };
    PipelineResult result;
    if (std::ranges::all_of(instructions, gives_back)) {
      const auto rows = static_cast<std::int64_t>(std::max(photos.size(), instructions.size()));
      result.latents = this->clean_latents(pictures).expand({rows, -1, -1, -1}).to(at::kCPU);
      result.images = tensor_to_images(pictures.expand({rows, -1, -1, -1}), Rounding::nearest);
      return result;
    }
    result.latents = sample(pictures, instructions, options, noise, attention).to(at::kCPU);
    result.images = this->decode(result.latents, rounding_of(*options.numerics));
    for (std::size_t i = 0; instructions.size() > 1 && i < instructions.size(); ++i) {
      if (!gives_back(instructions[i])) continue;
      const auto row = static_cast<std::int64_t>(photos.size() == 1 ? 0 : i);
      const auto picture = pictures.narrow(0, row, 1);
      result.latents[static_cast<std::int64_t>(i)].copy_(this->clean_latents(picture)[0]);
      result.images[i] = tensor_to_images(picture, Rounding::nearest).front();
    }
    return result;
  }

  /// Resized and centre-cropped pictures as [B,3,H,W], fp32 in [-1,1].
  [[nodiscard]] at::Tensor prepare(std::span<const Image> photos, const RunSettings& settings = {}) const {
    const auto options = this->completed(settings);
    return prepare_photos(photos, options.resolution, *options.numerics);
  }

  /// The low-level form: pictures as tensors in, latents out.
  ///
  /// \param images [B,3,H,W] in [-1,1], sides multiples of the codec's `downscale()`
  /// \return latents [B,C,H/f,W/f], fp32, times `scaling_factor()`
  template <class Noise, class Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample(const at::Tensor& images, std::span<const std::string> instructions,
                                  const RunSettings& settings, Noise& noise, const Attention& attention = {}) const {
    settings.hooks.check({.index = 0, .count = *this->completed(settings).steps});
    return sample_latents(this->encode_images(images), instructions, settings, noise, attention);
  }

  /// The same for pictures that are already encoded. \param image_latents [B,C,h,w], unscaled
  template <class Noise, class Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample_latents(const at::Tensor& image_latents, std::span<const std::string> instructions,
                                          const RunSettings& settings, Noise& noise,
                                          const Attention& attention = {}) const {
    const auto options = this->completed(settings);
    const auto channels = this->codec().latent_channels();
    require(image_latents.dim() == 4 && image_latents.size(1) == channels,
            "EditPipeline: image latents: expected [B,{},h,w], found {}", channels, shape_text(image_latents.sizes()));
    const auto sigmas = this->diffusion.schedule.sigmas(*options.steps);
    const auto pictures = static_cast<std::size_t>(image_latents.size(0));
    const auto batch = std::max(pictures, instructions.size());
    require((pictures == 1 || pictures == batch) && (instructions.size() == 1 || instructions.size() == batch),
            "EditPipeline: expected as many instructions as pictures or one for all, found {} and {}",
            instructions.size(), pictures);
    std::vector<std::string> prompts;
    for (std::size_t i = 0; i < batch; ++i) prompts.push_back(instructions[instructions.size() == 1 ? 0 : i]);
    auto conditioning = this->encode_text(prompts, options.negative_prompt);
    conditioning.image = image_latents.expand({static_cast<std::int64_t>(batch), -1, -1, -1});
    const auto start = this->start_noise(options, conditioning.image.sizes(), noise);
    return this->denoise(start.mul(initial_sigma(this->diffusion.schedule, sigmas)), sigmas, std::move(conditioning),
                         noise, options.hooks, attention);
  }

 private:
  static void require_some(std::span<const Image> photos, std::span<const std::string> instructions) {
    require(!photos.empty() && !instructions.empty(),
            "EditPipeline: expected pictures and instructions, found {} and {}", photos.size(), instructions.size());
  }
};

}  // namespace ip2p
