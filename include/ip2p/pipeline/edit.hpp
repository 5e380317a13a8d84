#pragma once

/// \file
/// InstructPix2Pix: edit a photograph by a written instruction (Brooks, Holynski and Efros, 2023).

#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/progress.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/guided.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/pipeline/branch_network.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/text/concepts.hpp"

namespace ip2p {

/// Which published program to agree with where the two differ.
enum class Numerics {
  released,  ///< The authors' `edit_cli.py`: its size rule, log-linear noise levels, pixels truncated to 8 bits.
  diffusers  ///< `StableDiffusionInstructPix2PixPipeline`: sides rounded down to multiples of 8, noise levels linear in
             ///< sigma, pixels rounded.
};

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

/// Pictures of an edit and the latents that they were decoded from.
struct EditResult {
  std::vector<Image> images;
  at::Tensor latents;  ///< [B,C,h,w], fp32 on the CPU, times `scaling_factor()` (what the sampler returned).
};

namespace detail {

/// Runs `body`; a failed allocation becomes an `Error` that says what to do.
template <class Body>
decltype(auto) with_memory_advice(Body&& body) {
  constexpr auto advice =
      "out of memory: use a smaller resolution, a 16-bit dtype, fewer pictures at once, or load "
      "the models on demand and tile the codec (--low-memory)";
  try {
    return body();
  } catch (const std::bad_alloc&) {
    throw Error(advice);
  } catch (const c10::OutOfMemoryError&) {
    throw Error(advice);
  } catch (const c10::Error& error) {
    if (std::string_view(error.what()).find("allocate memory") != std::string_view::npos) throw Error(advice);
    throw;
  }
}

/// Element i of a list that has one entry for all or one for each.
template <class Value>
const Value& broadcast(std::span<const Value> values, std::size_t i) {
  return values.size() == 1 ? values[0] : values[i];
}

}  // namespace detail

/// Size at which a picture is edited. \param resolution see `EditOptions::resolution`
/// \throws Error for a resolution below 64 or above 16384
inline Size edit_size(std::int64_t width, std::int64_t height, std::optional<std::int64_t> resolution,
                      Numerics numerics) {
  const auto wanted = resolution.value_or(512);
  require(wanted >= 64 && wanted <= 16384, "resolution: expected 64 to 16384 pixels, found {}", wanted);
  if (numerics == Numerics::released) return released_size(width, height, wanted);
  const double factor = resolution ? static_cast<double>(wanted) / static_cast<double>(std::max(width, height)) : 1.0;
  const auto side = [factor](std::int64_t length) {
    return std::max<std::int64_t>(8, static_cast<std::int64_t>(static_cast<double>(length) * factor + 1e-9) / 8 * 8);
  };
  return {side(width), side(height)};
}

/// The editor: text encoder, codec and UNet hold the weights, sampler and guidance the algorithm; this only composes.
///
/// Calls do not change the pipeline: the second edit with equal arguments gives equal bits. One pipeline serves one
/// thread at a time.
template <TextEncoder Encoder, ImageCodec Codec, DenoisingNetwork Network, SamplerPolicy Sampler = EulerAncestral,
          GuidancePolicy Guidance = DualGuidance>
class EditPipeline {
 public:
  Sampler sampler;            ///< May be replaced between edits.
  Guidance guidance;          ///< May be replaced between edits.
  SchedulerConfig scheduler;  ///< The noise that the model was trained with.

  /// \throws Error when the UNet's input channels are not latents plus image latents
  EditPipeline(Encoder text_encoder, Codec codec, Network unet, Sampler sampler_ = {}, Guidance guidance_ = {},
               SchedulerConfig scheduler_ = {})
      : sampler(std::move(sampler_)),
        guidance(std::move(guidance_)),
        scheduler(std::move(scheduler_)),
        text_encoder_(std::move(text_encoder)),
        codec_(std::move(codec)),
        unet_(std::move(unet)) {
    const auto channels = codec_.latent_channels();
    require(unet_.in_channels() == 2 * channels,
            "EditPipeline: expected a UNet with {} input channels (noisy latents and image latents), found {}{}",
            2 * channels, unet_.in_channels(),
            unet_.in_channels() == channels ? ": this is a text-to-image model, not an InstructPix2Pix model" : "");
  }

  /// Moves every model. \param dtype of the weights and of the arithmetic inside the models
  void to(at::Device device, at::ScalarType dtype) {
    text_encoder_.to(device, dtype);
    codec_.to(device, dtype);
    unet_.to(device, dtype);
  }

  /// Moves every model to `device` in the dtype that is best there.
  void to(at::Device device) { to(device, best_dtype(device)); }

  /// Edits one picture.
  /// \throws Error for options out of range, non-finite or constant results; Cancelled
  [[nodiscard]] Image operator()(const Image& photo, const std::string& instruction, const EditOptions& options = {}) {
    return std::move(run({&photo, 1}, {&instruction, 1}, options).images.front());
  }

  /// Edits a batch: one picture for all instructions, one instruction for all pictures, or one each. Pictures must
  /// come to one size.
  [[nodiscard]] EditResult run(std::span<const Image> photos, std::span<const std::string> instructions,
                               const EditOptions& options = {}) {
    return detail::with_memory_advice([&] {
      require(!photos.empty() && !instructions.empty(),
              "EditPipeline: expected pictures and instructions, found {} and "
              "{}",
              photos.size(), instructions.size());
      const auto schedule = options.numerics == Numerics::released
                                ? AnySchedule(LogLinearSigmas::from_config(scheduler))
                                : AnySchedule(LinearSigmas::from_config(scheduler));
      const auto images = prepare(photos, options);
      TorchNoise noise(seeds_for(std::max(photos.size(), instructions.size()), options));
      EditResult result;
      result.latents = sample(images, instructions, options, schedule, noise).to(at::kCPU);
      result.images = decode(result.latents, options.numerics);
      return result;
    });
  }

  /// Resized and centre-cropped pictures as [B,3,H,W], fp32 in [-1,1].
  [[nodiscard]] at::Tensor prepare(std::span<const Image> photos, const EditOptions& options = {}) const {
    std::vector<at::Tensor> tensors;
    std::optional<Size> first;
    for (const auto& photo : photos) {
      const auto size = edit_size(photo.width, photo.height, options.resolution, options.numerics);
      if (!first) first = size;
      require(size.width == first->width && size.height == first->height,
              "EditPipeline: expected pictures that come to one size, found {}x{} and {}x{}", first->width,
              first->height, size.width, size.height);
      const auto fitted = options.numerics == Numerics::released
                              ? fit(photo, size.width, size.height, Filter::lanczos, PassOrder::horizontal_first)
                              : resize(photo, size.width, size.height, Filter::lanczos);
      tensors.push_back(to_tensor(fitted));
    }
    return at::stack(tensors).to(at::kFloat).mul_(2).div_(255).sub_(1);
  }

  /// The expert form: any schedule, noise source and attention edit, latents out.
  ///
  /// \param images [B,3,H,W] in [-1,1], sides multiples of the codec's `downscale()`
  /// \return latents [B,C,H/f,W/f], fp32, times `scaling_factor()`
  template <SchedulePolicy Schedule, NoiseSource Noise, AttentionPolicy Attention = PlainAttention>
  [[nodiscard]] at::Tensor sample(const at::Tensor& images, std::span<const std::string> instructions,
                                  const EditOptions& options, const Schedule& schedule, Noise& noise,
                                  const Attention& attention = {}) {
    const at::NoGradGuard no_grad;
    require(options.steps >= 1, "steps: expected at least 1, found {}", options.steps);
    const auto pictures = static_cast<std::size_t>(images.size(0));
    const auto batch = std::max(pictures, instructions.size());
    require((pictures == 1 || pictures == batch) && (instructions.size() == 1 || instructions.size() == batch),
            "EditPipeline: expected as many instructions as pictures or one for all, found {} and {}",
            instructions.size(), pictures);

    // The null text rides in the same batch as the instructions.
    std::vector<std::string> prompts;
    for (std::size_t i = 0; i < batch; ++i) prompts.push_back(detail::broadcast(instructions, i));
    prompts.push_back(options.negative_prompt);
    const auto context = text_encoder_.encode(prompts);
    require(at::isfinite(context).all().template item<bool>(),
            "text encoder: expected finite values, found NaN or infinity: its weights are damaged or overflow in {}",
            at::toString(context.scalar_type()));
    const auto rows = static_cast<std::int64_t>(batch);
    const auto text = context.narrow(0, 0, rows);
    const auto null_text = context.narrow(0, rows, 1).expand_as(text);

    options.hooks.check({.index = 0, .count = options.steps});
    auto image_latents = finite_or_wider([&] { return codec_.encode(images.to(unet_.device())); }, "vae encoder");
    if (pictures != batch) {
      image_latents = image_latents.expand({rows, -1, -1, -1});
    }

    const auto sigmas = schedule.sigmas(options.steps);
    const std::vector<std::int64_t> shape{rows, codec_.latent_channels(), image_latents.size(2), image_latents.size(3)};
    at::Tensor start = options.latents.defined() ? options.latents : noise.normal(shape, 0);
    require(start.sizes() == at::IntArrayRef(shape), "latents: expected {}, found {}", shape_text(shape),
            shape_text(start.sizes()));
    start = start.to(unet_.device(), at::kFloat).mul(initial_sigma(schedule, sigmas));

    BranchNetwork<Network, Attention> network(unet_, text, null_text, image_latents, attention);
    network.prepare(schedule, sigmas);
    NetworkDenoiser denoiser(Guided(std::ref(network), guidance), schedule, AnyPrediction{scheduler.prediction});
    return sampler.sample(denoiser, std::move(start), sigmas, noise, options.hooks);
  }

  /// Latents of `sample()` to pictures.
  /// \throws Error when the codec gives values that are not finite in fp32 too, or one colour everywhere
  [[nodiscard]] std::vector<Image> decode(const at::Tensor& latents, Numerics numerics = Numerics::released) {
    const at::NoGradGuard no_grad;
    const auto scaled = latents.to(unet_.device(), at::kFloat).div(codec_.scaling_factor());
    const auto decoded = finite_or_wider([&] { return codec_.decode(scaled); }, "vae decoder").to(at::kCPU, at::kFloat);
    auto pixels = decoded.add(1).div_(2).clamp_(0, 1).mul_(255);
    if (numerics == Numerics::diffusers) pixels = pixels.round_();
    const auto bytes = pixels.to(at::kByte);
    std::vector<Image> images;
    for (std::int64_t i = 0; i < bytes.size(0); ++i) {
      const auto picture = bytes[i].contiguous();
      const auto flat = picture.flatten(1);
      require(picture.size(1) * picture.size(2) == 1 ||
                  !(std::get<0>(flat.min(1)) == std::get<0>(flat.max(1))).all().template item<bool>(),
              "picture {}: expected an image, found one colour everywhere: the weights do not belong together or are "
              "damaged",
              i);
      images.push_back(from_tensor(picture));
    }
    return images;
  }

  [[nodiscard]] const Encoder& text_encoder() const { return text_encoder_; }
  [[nodiscard]] const Codec& codec() const { return codec_; }
  [[nodiscard]] const Network& unet() const { return unet_; }

 private:
  static std::vector<std::uint64_t> seeds_for(std::size_t batch, const EditOptions& options) {
    require(options.seeds.empty() || options.seeds.size() == batch, "seeds: expected {} (one per picture), found {}",
            batch, options.seeds.size());
    if (!options.seeds.empty()) return options.seeds;
    std::vector<std::uint64_t> seeds;
    for (std::size_t i = 0; i < batch; ++i) seeds.push_back(options.seed + i);
    return seeds;
  }

  /// Some published autoencoders overflow in fp16: the codec then goes over to fp32 for good, so that a later edit
  /// gives the same picture.
  template <class Evaluate>
  at::Tensor finite_or_wider(Evaluate&& evaluate, const char* what) {
    auto result = evaluate();
    if (at::isfinite(result).all().template item<bool>()) return result;
    if constexpr (requires { codec_.to(at::Device(at::kCPU), at::kFloat); }) {
      if (result.scalar_type() != at::kFloat) {
        codec_.to(unet_.device(), at::kFloat);
        result = evaluate();
        if (at::isfinite(result).all().template item<bool>()) return result;
      }
    }
    std::string layer;
    if constexpr (requires { codec_.first_non_finite(evaluate); }) layer = codec_.first_non_finite(evaluate);
    fail("{}: expected finite values, found NaN or infinity{}{} in fp32: its weights or its input are damaged", what,
         layer.empty() ? "" : ", first in vae.", layer);
  }

  Encoder text_encoder_;
  Codec codec_;
  Network unet_;
};

}  // namespace ip2p
