#pragma once

/// \file
/// Edits that are limited to a mask: by holding the rest in place with any model, and with an inpainting model.

#include <ATen/ops/cat.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/latent_pipeline.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"

namespace ip2p {

/// \throws Error unless the mask has the photograph's size
inline void require_mask_fits(const Image& mask, const Image& photo) {
  require(mask.width == photo.width && mask.height == photo.height,
          "mask: expected the photograph's size {}x{}, found {}x{}", photo.width, photo.height, mask.width,
          mask.height);
}

/// Where to edit: [1,1,H,W] of 1 (edit) and 0 (keep), fp32, from a picture whose bright half means "edit".
/// \param resolution, numerics those of the photograph, so that both are resized and cropped alike
inline at::Tensor mask_tensor(const Image& mask, std::optional<std::int64_t> resolution, Numerics numerics) {
  return prepare_photos({&mask, 1}, resolution, numerics).mean(1, true).gt(0.0).to(at::kFloat);
}

/// A mask at the latents' resolution, by nearest neighbours (diffusers `prepare_mask_latents`).
/// \param mask [1 or B,1,H,W]  \return [1 or B,1,h,w]
inline at::Tensor latent_mask(const at::Tensor& mask, std::int64_t height, std::int64_t width) {
  return at::upsample_nearest2d(mask, {height, width});
}

/// For `RunHooks::revise`: after each step, everything outside the mask is put back to the clean latents at the step's
/// noise level, so that only the inside changes. Works with every model and sampler.
///
/// Reference: blended latent diffusion (Avrahami et al. 2023), diffusers' inpainting with a text-to-image UNet.
/// \param mask [1 or B,1,h,w], 1 inside  \param clean [B,C,h,w], times the scaling factor  \param noise of unit
/// variance
inline RunHooks::Revise hold_outside(at::Tensor mask, at::Tensor clean, at::Tensor noise) {
  require(mask.dim() == 4 && mask.size(1) == 1 && mask.sizes().slice(2) == clean.sizes().slice(2) &&
              noise.sizes() == clean.sizes(),
          "mask: expected [B,1,h,w] for latents {} and noise of their shape, found {} and {}",
          shape_text(clean.sizes()), shape_text(mask.sizes()), shape_text(noise.sizes()));
  return [mask = std::move(mask), clean = std::move(clean), noise = std::move(noise)](const Step& at,
                                                                                      const at::Tensor& x) {
    const auto inside = mask.to(x.options());
    const auto held = clean.to(x.options()).add(noise.to(x.options()), at.sigma_next);
    return held.add(inside.mul(x.sub(held)));
  };
}

/// `after` where the mask [1,1,H,W] is 1, the prepared photograph `before` [1,3,H,W] where it is 0: the codec's round
/// trip does not touch what was to be kept.
inline Image paste_inside(const at::Tensor& mask, const at::Tensor& before, const Image& after) {
  const auto edited = images_to_tensor({&after, 1});
  require(edited.sizes() == before.sizes(), "paste_inside: expected a result of {}, found {}",
          shape_text(before.sizes()), shape_text(edited.sizes()));
  return tensor_to_images(before.add(mask.mul(edited.sub(before))), Numerics::diffusers).front();
}

/// Edits only the part of a photograph that a mask shows, with an InstructPix2Pix model (`EditPipeline`).
/// \param mask a picture of the photograph's size, bright where the edit may act
/// \throws Error as the pipeline does, and for a mask of another size
template <class Pipeline>
[[nodiscard]] Image masked_edit(Pipeline& pipeline, const Image& photo, const Image& mask,
                                const std::string& instruction, EditOptions options = {}) {
  require_mask_fits(mask, photo);
  const auto schedule = default_schedule(options.numerics, pipeline.scheduler);
  const auto before = pipeline.prepare({&photo, 1}, options);
  const auto where = mask_tensor(mask, options.resolution, options.numerics);
  TorchNoise noise(seeds_for(1, options.seed, options.seeds));
  const auto image_latents = pipeline.encode_images(before);
  const auto clean = image_latents.to(at::kFloat).mul(pipeline.codec().scaling_factor());
  if (!options.latents.defined()) options.latents = noise.normal(clean.sizes(), 0);
  options.hooks.revise = then(options.hooks.revise,
                              hold_outside(latent_mask(where, clean.size(2), clean.size(3)), clean, options.latents));
  const auto latents = pipeline.sample_latents(image_latents, {&instruction, 1}, options, schedule, noise);
  return paste_inside(where, before, pipeline.decode(latents, options.numerics).front());
}

/// Numbers of one run of `inpaint`.
struct InpaintOptions {
  double strength = 1.0;  ///< In (0, 1]: share of the steps that are run; 1 starts inside the mask from noise alone.
  std::int64_t steps = 50;
  std::uint64_t seed = 42;
  std::string negative_prompt = {};
  std::optional<std::int64_t> resolution = {};  ///< Long side in pixels; see `edit_size`.
  bool paste = true;  ///< Take the pixels outside the mask from the photograph rather than from the codec.
  Numerics numerics = Numerics::released;
  RunHooks hooks = {};
};

/// Redraws what a mask shows after a text: text encoder, codec and a UNet with the latents' channels, whose outside is
/// held in place step by step, or an inpainting UNet with 2 C + 1 channels that sees the mask and the masked picture.
template <TextEncoder Encoder, ImageCodec Codec, DenoisingNetwork Network, SamplerPolicy Sampler = EulerAncestral,
          GuidancePolicy Guidance = TextGuidance>
class InpaintPipeline : public LatentPipeline<Encoder, Codec, Network, Sampler, Guidance> {
 public:
  /// \throws Error for a UNet with other input channels
  InpaintPipeline(Encoder text_encoder, Codec codec, Network unet, Sampler sampler = {}, Guidance guidance = {},
                  SchedulerConfig scheduler = {})
      : LatentPipeline<Encoder, Codec, Network, Sampler, Guidance>(std::move(text_encoder), std::move(codec),
                                                                   std::move(unet), std::move(sampler),
                                                                   std::move(guidance), std::move(scheduler)) {
    const auto channels = this->codec().latent_channels();
    const auto found = this->unet().in_channels();
    require(found == channels || found == 2 * channels + 1,
            "InpaintPipeline: expected a UNet with {} input channels, or {} (an inpainting model), found {}", channels,
            2 * channels + 1, found);
  }

  /// Redraws one photograph.
  /// \param mask a picture of the photograph's size, bright where to redraw
  /// \throws Error for options out of range, a mask of another size, non-finite or constant results; Cancelled
  [[nodiscard]] Image operator()(const Image& photo, const Image& mask, const std::string& prompt,
                                 const InpaintOptions& options = {}) {
    require_mask_fits(mask, photo);
    const auto schedule = default_schedule(options.numerics, this->scheduler);
    const auto before = prepare_photos({&photo, 1}, options.resolution, options.numerics);
    const auto where = mask_tensor(mask, options.resolution, options.numerics);
    TorchNoise noise(options.seed);
    const auto latents = sample(before, where, {&prompt, 1}, options, schedule, noise);
    auto after = this->decode(latents, options.numerics).front();
    return options.paste ? paste_inside(where, before, after) : after;
  }

  /// The expert form: any schedule, noise source and attention edit, latents out. Draws, in this order: noise of the
  /// photograph's posterior (unless an inpainting model starts from noise), of the start, and of the masked
  /// photograph's posterior (inpainting models).
  /// \param photo [1,3,H,W] in [-1,1]  \param mask [1,1,H,W] of 0 and 1
  /// \return latents [B,C,h,w] for B prompts, fp32, times `scaling_factor()`
  template <SchedulePolicy Schedule, NoiseSource Noise, AttentionPolicy Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample(const at::Tensor& photo, const at::Tensor& mask, std::span<const std::string> prompts,
                                  const InpaintOptions& options, const Schedule& schedule, Noise& noise,
                                  const Attention& attention = {}) {
    const auto sigmas = schedule.sigmas(options.steps);
    const auto remaining = static_cast<std::size_t>(steps_for_strength(options.strength, options.steps));
    const auto tail = std::span(sigmas).last(remaining + 1);
    const auto rows = static_cast<std::int64_t>(prompts.size());
    const auto shape = this->latent_shape(rows, photo.size(3), photo.size(2));
    const auto posterior = [&](const at::Tensor& picture, std::int64_t draw) {
      return this->clean_latents(picture, noise.normal(shape, draw)).expand(shape);
    };
    const bool from_noise = remaining == static_cast<std::size_t>(options.steps);
    const bool holds = this->unet().in_channels() == this->codec().latent_channels();
    at::Tensor clean;
    if (holds || !from_noise) clean = posterior(photo, options.steps + 1);
    const auto start_noise = noise.normal(shape, 0).to(this->unet().device());
    const auto small_mask = latent_mask(mask, shape[2], shape[3]).to(start_noise.device());
    auto conditioning = this->encode_text(prompts, options.negative_prompt);
    auto hooks = options.hooks;
    if (holds) {
      hooks.revise = then(std::move(hooks.revise), hold_outside(small_mask, clean, start_noise));
    } else {
      const auto masked = posterior(photo * (mask < 0.5).to(photo.options()), options.steps + 2);
      conditioning.image = at::cat({small_mask.expand({rows, -1, -1, -1}), masked}, 1);
    }
    const auto start =
        from_noise ? start_noise.mul(initial_sigma(schedule, sigmas)) : clean.add(start_noise, tail.front());
    return this->denoise(start, tail, std::move(conditioning), schedule, noise, hooks, attention);
  }
};

}  // namespace ip2p
