#pragma once

/// \file
/// Edits limited to a mask: with any model, by holding the rest in place, or with an inpainting model.

#include <ATen/ops/cat.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/to_device.hpp"
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

/// Converts a mask picture, where the brighter half of the range means "edit", to [1,1,H,W] of 1 (edit) and 0 (keep),
/// fp32.
/// \param resolution, numerics the photograph's, so that both are resized and cropped alike
inline at::Tensor mask_tensor(const Image& mask, std::optional<std::int64_t> resolution, Numerics numerics) {
  return prepare_photos({&mask, 1}, resolution, numerics).mean(1, true).gt(0.0).to(at::kFloat);
}

/// A mask at the latents' resolution, by nearest neighbour (diffusers `prepare_mask_latents`).
/// \param mask [1 or B,1,H,W]  \return [1 or B,1,h,w]
inline at::Tensor latent_mask(const at::Tensor& mask, std::int64_t height, std::int64_t width) {
  return at::upsample_nearest2d(mask, {height, width});
}

/// For `RunHooks::revise`: after each step, resets everything outside the mask to the clean latents at the step's noise
/// level, so that only the inside changes. Works with every model and sampler.
///
/// Reference: blended latent diffusion (Avrahami et al. 2023), diffusers' inpainting with a text-to-image UNet.
/// \param mask [1 or B,1,h,w], 1 inside
/// \param clean [B,C,h,w], times the scaling factor; best on the network's device, or each step copies all three there
/// \param noise of unit variance
inline RunHooks::Revise hold_outside(at::Tensor mask, at::Tensor clean, at::Tensor noise) {
  require(mask.dim() == 4 && mask.size(1) == 1 && mask.sizes().slice(2) == clean.sizes().slice(2) &&
              noise.sizes() == clean.sizes(),
          "mask: expected [B,1,h,w] for latents {} and noise of their shape, found {} and {}",
          shape_text(clean.sizes()), shape_text(mask.sizes()), shape_text(noise.sizes()));
  mask = detail::to_device(mask, clean.device());
  noise = detail::to_device(noise, clean.device());
  return [mask = std::move(mask), clean = std::move(clean), noise = std::move(noise)](const Step& step,
                                                                                      const at::Tensor& x) {
    const auto inside = mask.to(x.options());
    const auto held = clean.to(x.options()).add(noise.to(x.options()), step.sigma_next);
    return held.add(inside.mul(x.sub(held)));
  };
}

/// `after` where the mask [1,1,H,W] is 1, the prepared photograph `before` [1,3,H,W] where it is 0, so that the codec's
/// round trip does not alter what should be kept.
inline Image paste_inside(const at::Tensor& mask, const at::Tensor& before, const Image& after) {
  const auto edited = images_to_tensor({&after, 1});
  require(edited.sizes() == before.sizes(), "paste_inside: expected a result of {}, found {}",
          shape_text(before.sizes()), shape_text(edited.sizes()));
  const auto photo = before.to(edited.device());
  return tensor_to_images(photo.add(mask.to(edited.device()).mul(edited.sub(photo))), Rounding::nearest).front();
}

namespace detail {

/// A noise source whose draw 0 was already taken: returns it once more, and later draws as they come.
template <class Noise>
struct AfterStart {
  Noise& noise;
  at::Tensor start;  ///< Draw 0.
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    return draw == 0 ? start : at::Tensor(noise.normal(shape, draw));
  }
};

}  // namespace detail

/// Edits only the masked part of a photograph, with an InstructPix2Pix model (`EditPipeline`).
/// \param mask a picture of the photograph's size, bright where to edit
/// \throws Error as the pipeline does, and for a mask of another size
template <class Pipeline, class Noise, class Attention = PlainAttention>
[[nodiscard]] Image masked_edit(const Pipeline& pipeline, const Image& photo, const Image& mask,
                                const std::string& instruction, const RunSettings& settings, Noise& noise,
                                const Attention& attention = {}) {
  require_mask_fits(mask, photo);
  auto options = pipeline.completed(settings);
  const auto before = pipeline.prepare({&photo, 1}, options);
  const auto where = mask_tensor(mask, options.resolution, *options.numerics);
  const auto image_latents = pipeline.encode_images(before);
  const auto clean = image_latents.to(pipeline.unet().device(), at::kFloat).mul(pipeline.codec().scaling_factor());
  // The run and what is held outside the mask begin with one noise; a stream would not give draw 0 twice.
  const auto start = pipeline.start_noise(options, clean.sizes(), noise);
  detail::AfterStart<Noise> rest{noise, start};
  options.hooks.revise = revise_in_turn(options.hooks.revise,
                                        hold_outside(latent_mask(where, clean.size(2), clean.size(3)), clean, start));
  const auto latents = pipeline.sample_latents(image_latents, {&instruction, 1}, options, rest, attention);
  return paste_inside(where, before, pipeline.decode(latents, rounding_of(*options.numerics)).front());
}

/// The same with torch's noise, from the settings' seed.
template <class Pipeline>
[[nodiscard]] Image masked_edit(const Pipeline& pipeline, const Image& photo, const Image& mask,
                                const std::string& instruction, const RunSettings& settings = {}) {
  TorchNoise noise(seeds_for(1, settings.seed, settings.seeds));
  return masked_edit(pipeline, photo, mask, instruction, settings, noise);
}

/// Options of `InpaintPipeline` in addition to the run's settings.
struct InpaintOptions {
  double strength = 1.0;  ///< In (0, 1]: fraction of the steps to run; 1 starts from pure noise in the mask.
  bool paste = true;      ///< Take pixels outside the mask from the photograph instead of the codec.
};

/// Redraws the masked region to match a prompt. Composed of a text encoder, a codec and a UNet, either with C input
/// channels, where the outside is held in place step by step, or an inpainting UNet with 2 C + 1, which sees the mask
/// and the masked picture. `open_inpainter` builds one from a model's files.
template <class Encoder, class Codec, class Network, class ModelDiffusion = detail::NoDiffusion,
          class Sampler = EulerAncestral, class Guidance = TextGuidance>
class InpaintPipeline : public LatentPipeline<Encoder, Codec, Network, ModelDiffusion, Sampler, Guidance> {
  using Base = LatentPipeline<Encoder, Codec, Network, ModelDiffusion, Sampler, Guidance>;

 public:
  /// Runs take 50 steps by default. \throws Error for a UNet with other input channels
  InpaintPipeline(Encoder text_encoder, Codec codec, Network unet, ModelDiffusion diffusion, Sampler sampler = {},
                  Guidance guidance = {})
      : Base(std::move(text_encoder), std::move(codec), std::move(unet), std::move(diffusion), std::move(sampler),
             std::move(guidance)) {
    const auto channels = this->codec().latent_channels();
    const auto found = this->unet().in_channels();
    require(found == channels || found == 2 * channels + 1,
            "InpaintPipeline: expected a UNet with {} input channels, or {} (an inpainting model), found {}", channels,
            2 * channels + 1, found);
  }

  /// Never compiles; explains what is missing (`require_diffusion`).
  InpaintPipeline(Encoder text_encoder, Codec codec,
                  Network unet) requires std::same_as<ModelDiffusion, detail::NoDiffusion>;

  /// Redraws one photograph, with torch's noise from the settings' seed.
  /// \param mask a picture of the photograph's size, bright where to redraw
  /// \throws Error for settings out of range, a mask of another size, non-finite or constant results; Cancelled
  [[nodiscard]] Image operator()(const Image& photo, const Image& mask, const std::string& prompt,
                                 const InpaintOptions& inpaint = {}, const RunSettings& settings = {}) const {
    TorchNoise noise(seeds_for(1, settings.seed, settings.seeds));
    return run(photo, mask, prompt, inpaint, settings, noise);
  }

  /// The same with your own noise source and attention policy; the settings' seeds are ignored.
  template <class Noise, class Attention = PlainAttention>
  [[nodiscard]] Image run(const Image& photo, const Image& mask, const std::string& prompt,
                          const InpaintOptions& inpaint, const RunSettings& settings, Noise& noise,
                          const Attention& attention = {}) const {
    require_mask_fits(mask, photo);
    const auto options = this->completed(settings);
    const auto before = prepare_photos({&photo, 1}, options.resolution, *options.numerics);
    const auto where = mask_tensor(mask, options.resolution, *options.numerics);
    const auto latents = sample(before, where, {&prompt, 1}, inpaint.strength, options, noise, attention);
    auto after = this->decode(latents, rounding_of(*options.numerics)).front();
    return inpaint.paste ? paste_inside(where, before, after) : after;
  }

  /// The low-level form: tensors in, latents out. Draws noise in this order: for the photograph's posterior (unless an
  /// inpainting model starts from pure noise), for the start, and for the masked photograph's posterior (inpainting
  /// models).
  /// \param photo [1,3,H,W] in [-1,1]  \param mask [1,1,H,W] of 0 and 1; either may be on any device
  /// \return latents [B,C,h,w] for B prompts, fp32, times `scaling_factor()`
  template <class Noise, class Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample(const at::Tensor& photo, const at::Tensor& mask, std::span<const std::string> prompts,
                                  double strength, const RunSettings& settings, Noise& noise,
                                  const Attention& attention = {}) const {
    const auto options = this->completed(settings);
    const auto steps = *options.steps;
    const auto sigmas = this->diffusion.schedule.sigmas(steps);
    const auto remaining = static_cast<std::size_t>(steps_for_strength(strength, steps));
    const auto tail = std::span(sigmas).last(remaining + 1);
    const auto rows = static_cast<std::int64_t>(prompts.size());
    const auto shape = this->latent_shape(rows, {.width = photo.size(3), .height = photo.size(2)});
    const auto device = this->unet().device();
    const auto posterior = [&](const at::Tensor& picture, std::int64_t draw) {
      return this->clean_latents(picture, noise.normal(shape, draw)).to(device).expand(shape);
    };
    const bool from_noise = remaining == static_cast<std::size_t>(steps);
    const bool holds = this->unet().in_channels() == this->codec().latent_channels();
    at::Tensor clean;
    if (holds || !from_noise) clean = posterior(photo, steps + 1);
    const auto start_noise = this->start_noise(options, shape, noise).to(device);
    const auto small_mask = latent_mask(mask, shape[2], shape[3]).to(device);
    auto conditioning = this->encode_text(prompts, options.negative_prompt);
    auto hooks = options.hooks;
    if (holds) {
      hooks.revise = revise_in_turn(std::move(hooks.revise), hold_outside(small_mask, clean, start_noise));
    } else {
      const auto masked = posterior(photo * (mask.to(photo.device()) < 0.5).to(photo.options()), steps + 2);
      conditioning.image = at::cat({small_mask.expand({rows, -1, -1, -1}), masked}, 1);
    }
    const auto start = from_noise ? start_noise.mul(initial_sigma(this->diffusion.schedule, sigmas))
                                  : clean.add(start_noise, tail.front());
    return this->denoise(start, tail, std::move(conditioning), noise, hooks, attention);
  }
};

}  // namespace ip2p
