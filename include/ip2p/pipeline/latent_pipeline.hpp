#pragma once

/// \file
/// What every latent diffusion pipeline is made of: text, codec and network with the algorithms that use them.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/progress.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/guidance/guided.hpp"
#include "ip2p/pipeline/branch_network.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/text/concepts.hpp"

namespace ip2p {

/// Pictures of a run and the latents that they were decoded from.
struct PipelineResult {
  std::vector<Image> images;
  at::Tensor latents;  ///< [B,C,h,w], fp32 on the CPU, times `scaling_factor()` (what the sampler returned).
};

/// The steps that pipelines have in common, each checked: prompts to conditioning, pictures to latents, latents at one
/// noise level to clean ones, latents to pictures. Algorithms over a pipeline (`sdedit`, `invert`, `inpaint`, ...) are
/// free functions of their own files and use these.
///
/// Calls do not change the pipeline: a second run with equal arguments gives equal bits. One pipeline serves one thread
/// at a time.
template <TextEncoder Encoder, ImageCodec Codec, DenoisingNetwork Network, SamplerPolicy Sampler,
          GuidancePolicy Guidance>
class LatentPipeline {
 public:
  Sampler sampler;            ///< May be replaced between runs.
  Guidance guidance;          ///< May be replaced between runs.
  SchedulerConfig scheduler;  ///< The noise that the model was trained with.
  /// Most branches of guidance that are evaluated together; 0: all, which is faster. 1 takes the least memory.
  std::size_t branches_at_once = 0;

  LatentPipeline(Encoder text_encoder, Codec codec, Network unet, Sampler sampler_ = {}, Guidance guidance_ = {},
                 SchedulerConfig scheduler_ = {})
      : sampler(std::move(sampler_)),
        guidance(std::move(guidance_)),
        scheduler(std::move(scheduler_)),
        text_encoder_(std::move(text_encoder)),
        codec_(std::move(codec)),
        unet_(std::move(unet)) {}

  /// Moves every model. \param dtype of the weights and of the arithmetic inside the models
  void to(at::Device device, at::ScalarType dtype) {
    text_encoder_.to(device, dtype);
    codec_.to(device, dtype);
    unet_.to(device, dtype);
  }

  /// Moves every model to `device` in the dtype that is best there.
  void to(at::Device device) { to(device, best_dtype(device)); }

  /// Texts and null texts, [B,tokens,D] each. \param negative stands for the empty text in the branches without text
  /// \throws Error for no prompts and for weights that give values which are not finite
  [[nodiscard]] Conditioning encode_text(std::span<const std::string> prompts, const std::string& negative = {}) const {
    const at::NoGradGuard no_grad;
    require(!prompts.empty(), "prompts: expected at least one, found none");
    // The null text rides in the same batch.
    std::vector<std::string> all(prompts.begin(), prompts.end());
    all.push_back(negative);
    const auto context = with_memory_advice([&] { return text_encoder_.encode(all); });
    require(at::isfinite(context).all().template item<bool>(),
            "text encoder: expected finite values, found NaN or infinity: its weights are damaged or overflow in {}",
            at::toString(context.scalar_type()));
    const auto rows = static_cast<std::int64_t>(prompts.size());
    const auto text = context.narrow(0, 0, rows);
    return {.text = text, .null_text = context.narrow(0, rows, 1).expand_as(text)};
  }

  /// Latents of pictures, unscaled (the mean of the codec's posterior).
  /// \param pictures [B,3,H,W] in [-1,1], sides multiples of the codec's `downscale()`
  /// \throws Error when the codec gives values that are not finite in fp32 too
  [[nodiscard]] at::Tensor encode_images(const at::Tensor& pictures) {
    const at::NoGradGuard no_grad;
    return with_memory_advice(
        [&] { return finite_or_wider([&] { return codec_.encode(pictures.to(unet_.device())); }, "vae encoder"); });
  }

  /// A sample of the codec's posterior, unscaled; the mean where the codec has no variance (`encode_moments`).
  /// \param pictures as in `encode_images`  \param noise standard normal, of the latents' shape
  [[nodiscard]] at::Tensor encode_images(const at::Tensor& pictures, const at::Tensor& noise) {
    if constexpr (requires { codec_.encode_moments(pictures).sample(noise); }) {
      const at::NoGradGuard no_grad;
      return with_memory_advice([&] {
        return finite_or_wider([&] { return codec_.encode_moments(pictures.to(unet_.device())).sample(noise); },
                               "vae encoder");
      });
    } else {
      return encode_images(pictures);
    }
  }

  /// What a run starts from or returns to: latents of pictures as `encode_images` gives them, fp32, times
  /// `scaling_factor()`. \param noise for a sample of the posterior: [B,C,h,w], or [R,C,h,w] for R samples of one
  /// picture
  template <class... Sample>
  [[nodiscard]] at::Tensor clean_latents(const at::Tensor& pictures, const Sample&... noise) {
    return encode_images(pictures, noise...).to(at::kFloat).mul(codec_.scaling_factor());
  }

  /// Latents at noise level sigmas[0] to clean ones, by this pipeline's sampler and guidance.
  /// \param x [B,C,h,w], fp32  \param sigmas noise levels of the run, e.g. of `schedule` or its tail
  /// \return [B,C,h,w], fp32, on the network's device
  /// \throws Error for unsound noise levels or values that are not finite; Cancelled
  template <SchedulePolicy Schedule, NoiseSource Noise, AttentionPolicy Attention = PlainAttention>
  [[nodiscard]] at::Tensor denoise(const at::Tensor& x, std::span<const double> sigmas, Conditioning conditioning,
                                   const Schedule& schedule, Noise& noise, const RunHooks& hooks = {},
                                   const Attention& attention = {}) {
    return denoise(x, sigmas, std::move(conditioning), schedule, noise, hooks, attention, guidance);
  }

  /// The same with a guidance of the run's own.
  template <SchedulePolicy Schedule, NoiseSource Noise, AttentionPolicy Attention, GuidancePolicy OwnGuidance>
  [[nodiscard]] at::Tensor denoise(const at::Tensor& x, std::span<const double> sigmas, Conditioning conditioning,
                                   const Schedule& schedule, Noise& noise, const RunHooks& hooks,
                                   const Attention& attention, const OwnGuidance& own) {
    const at::NoGradGuard no_grad;
    return with_memory_advice([&] {
      BranchNetwork<Network, Attention> network(unet_, std::move(conditioning), attention);
      network.evaluate_at_once(branches_at_once);
      network.prepare(schedule, sigmas);
      NetworkDenoiser denoiser(Guided(std::ref(network), own), schedule, AnyPrediction{scheduler.prediction});
      return sampler.sample(denoiser, x.to(unet_.device(), at::kFloat), sigmas, noise, hooks);
    });
  }

  /// Latents of `denoise()` to pictures.
  /// \throws Error when the codec gives values that are not finite in fp32 too, or one colour everywhere
  [[nodiscard]] std::vector<Image> decode(const at::Tensor& latents, Numerics numerics = Numerics::released) {
    const at::NoGradGuard no_grad;
    return with_memory_advice([&] {
      const auto scaled = latents.to(unet_.device(), at::kFloat).div(codec_.scaling_factor());
      const auto decoded = finite_or_wider([&] { return codec_.decode(scaled); }, "vae decoder");
      auto images = tensor_to_images(decoded, numerics);
      for (std::size_t i = 0; i < images.size(); ++i) {
        require(!one_colour(images[i]),
                "picture {}: expected an image, found one colour everywhere: the weights do not belong together or are "
                "damaged",
                i);
      }
      return images;
    });
  }

  /// Latents [B,C,h,w] for pictures of `width` x `height`. \throws Error unless both are positive multiples of the
  /// codec's `downscale()`
  [[nodiscard]] std::vector<std::int64_t> latent_shape(std::int64_t batch, std::int64_t width,
                                                       std::int64_t height) const {
    const auto f = codec_.downscale();
    require(width > 0 && height > 0 && width % f == 0 && height % f == 0,
            "size: expected positive multiples of {}, found {}x{}", f, width, height);
    return {batch, codec_.latent_channels(), height / f, width / f};
  }

  [[nodiscard]] const Encoder& text_encoder() const { return text_encoder_; }
  [[nodiscard]] const Codec& codec() const { return codec_; }
  [[nodiscard]] const Network& unet() const { return unet_; }

 private:
  static bool one_colour(const Image& image) {
    const auto& p = image.pixels;
    if (p.size() <= 3) return false;
    for (std::size_t i = 3; i < p.size(); ++i) {
      if (p[i] != p[i - 3]) return false;
    }
    return true;
  }

  /// Some published autoencoders overflow in fp16: the codec then goes over to fp32 for good, so that a later run gives
  /// the same picture.
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
