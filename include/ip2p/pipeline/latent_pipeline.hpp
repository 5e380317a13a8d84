#pragma once

/// \file
/// Base of all latent diffusion pipelines: text encoder, codec and network with the algorithms that use them.

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
#include "ip2p/core/cudnn_benchmark.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/execution/any_execution.hpp"
#include "ip2p/guidance/guided_denoiser.hpp"
#include "ip2p/pipeline/branch_network.hpp"
#include "ip2p/pipeline/fused_steps.hpp"
#include "ip2p/pipeline/noise_ahead.hpp"
#include "ip2p/pipeline/run_settings.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/diffusion.hpp"
#include "ip2p/text/concepts.hpp"

namespace ip2p {

/// Pictures of a run, with the latents from which they were decoded.
struct PipelineResult {
  std::vector<Image> images;  ///< One picture a prompt.
  at::Tensor latents;         ///< [B,C,h,w], fp32 on the CPU, times `scaling_factor()` (what the sampler returned).
};

/// Makes torch's noise source from a batch's seeds, for algorithms that need noise for several runs.
inline constexpr auto torch_noise = [](const std::vector<std::uint64_t>& seeds) {
  return TorchNoise::from_seeds(seeds);
};

/// The steps that all pipelines share, with checks: prompts to conditioning, pictures to latents, noisy latents to
/// clean ones, latents to pictures. Algorithms over a pipeline (`sdedit`, `invert`, `inpaint`, ...) are free functions
/// in their own headers and build on these.
///
/// Calls change neither the pipeline nor the weights that it shares: equal arguments give identical results, from any
/// thread.
template <class Encoder, class Codec, class Network, class ModelDiffusion, class Sampler, class Guidance>
class LatentPipeline {
  static_assert((require_text_encoder<Encoder>(), require_image_codec<Codec>(), require_denoising_network<Network>(),
                 require_diffusion<ModelDiffusion>(), require_sampler_policy<Sampler>(),
                 require_guidance_policy<Guidance>(), true));

 public:
  ModelDiffusion diffusion;  ///< Schedule of noise levels and prediction type; the schedule may be replaced.
  Sampler sampler;           ///< May be replaced between runs.
  Guidance guidance;         ///< May be replaced between runs.
  RunDefaults defaults;      ///< Values for what a run's settings leave unset.
  /// Limit on guidance branches evaluated together; 0: all, which is fastest. 1 takes the least memory.
  std::size_t branches_at_once = 0;
  /// Carries out the network's evaluations: `Eager`, unless replaced between runs, by `Graphed` for instance. Results
  /// are the same bits.
  AnyExecution execution;

  /// Takes the models by value (handles share their weights) and what the network was trained with.
  LatentPipeline(Encoder text_encoder, Codec codec, Network unet, ModelDiffusion diffusion_, Sampler sampler_,
                 Guidance guidance_)
      : diffusion(std::move(diffusion_)),
        sampler(std::move(sampler_)),
        guidance(std::move(guidance_)),
        text_encoder_(std::move(text_encoder)),
        codec_(std::move(codec)),
        unet_(std::move(unet)) {}

  /// Moves every model that supports it. \param dtype of the weights and of the arithmetic inside the models
  void to(at::Device device, at::ScalarType dtype) {
    const auto move = [&](auto& model) {
      if constexpr (requires { model.to(device, dtype); }) model.to(device, dtype);
    };
    move(text_encoder_);
    move(codec_);
    move(unet_);
  }

  /// Moves every model to `device` in the dtype that is best there.
  void to(at::Device device) { to(device, best_dtype(device)); }

  /// `settings` with unset values filled in from `defaults`, as a run of this pipeline would use them.
  [[nodiscard]] RunSettings completed(RunSettings settings = {}) const {
    return ip2p::completed(std::move(settings), defaults);
  }

  /// Encodes prompts and null texts, [B,tokens,D] each. \param negative replaces the empty text in branches without
  /// text
  /// \throws Error for no prompts and for weights that give non-finite values
  [[nodiscard]] Conditioning encode_text(std::span<const std::string> prompts, const std::string& negative = {}) const {
    const at::NoGradGuard no_grad;
    require(!prompts.empty(), "prompts: expected at least one, found none");
    // The null text is encoded in the same batch.
    std::vector<std::string> all(prompts.begin(), prompts.end());
    all.push_back(negative);
    const auto context = with_memory_advice([&] { return encode_checked(text_encoder_, all); });
    require(all_finite(context),
            "text encoder: expected finite values, found NaN or infinity: its weights are damaged or overflow in {}",
            at::toString(context.scalar_type()));
    const auto rows = static_cast<std::int64_t>(prompts.size());
    const auto text = context.narrow(0, 0, rows);
    return {.text = text, .null_text = context.narrow(0, rows, 1).expand_as(text)};
  }

  /// Encodes pictures as unscaled latents (the mean of the codec's posterior).
  /// \param pictures [B,3,H,W] in [-1,1], sides multiples of the codec's `downscale()`
  /// \throws Error when the codec gives values that are not finite in fp32 too
  [[nodiscard]] at::Tensor encode_images(const at::Tensor& pictures) const {
    return finite_or_wider("vae encoder",
                           [&](const Codec& codec) { return encode_checked(codec, pictures.to(unet_.device())); });
  }

  /// A sample of the codec's posterior, unscaled; its mean if the codec has no variance (`encode_moments`).
  /// \param pictures as in `encode_images`  \param noise standard normal, of the latents' shape
  [[nodiscard]] at::Tensor encode_images(const at::Tensor& pictures, const at::Tensor& noise) const {
    if constexpr (requires(const Codec& codec) { codec.encode_moments(pictures).sample(noise); }) {
      return finite_or_wider("vae encoder", [&](const Codec& codec) {
        const auto latents = codec.encode_moments(pictures.to(unet_.device())).sample(noise);
        require_latents(codec, pictures.expand({latents.size(0), -1, -1, -1}), latents);
        return latents;
      });
    } else {
      return encode_images(pictures);
    }
  }

  /// Clean latents of pictures, as a run starts from or ends with: those of `encode_images`, fp32, times
  /// `scaling_factor()`. \param noise for a sample of the posterior: [B,C,h,w], or [R,C,h,w] for R samples of one
  /// picture
  template <class... Sample>
  [[nodiscard]] at::Tensor clean_latents(const at::Tensor& pictures, const Sample&... noise) const {
    return encode_images(pictures, noise...).to(at::kFloat).mul(codec_.scaling_factor());
  }

  /// Denoises latents at noise level sigmas[0] with this pipeline's sampler and guidance.
  ///
  /// If a table of fused operators with a `guided_step` of its own is registered for the device, each step is one call
  /// of it after the network's evaluation. That takes a linear guidance of predictions, a sampler of Euler's family
  /// (`EulerFamilySampler`), all branches evaluated at once, and no `revise` among the hooks; any other run, and any
  /// without such a table, is composed of guidance, denoiser and sampler. Both are the same up to rounding.
  /// \param x [B,C,h,w], fp32  \param sigmas noise levels of the run, e.g. those of `diffusion.schedule` or their tail
  /// \return [B,C,h,w], fp32, on the network's device
  /// \throws Error for invalid noise levels or non-finite values; Cancelled
  template <class Noise, class Attention = PlainAttention>
  [[nodiscard]] at::Tensor denoise(const at::Tensor& x, std::span<const double> sigmas, Conditioning conditioning,
                                   Noise& noise, const RunHooks& hooks = {}, const Attention& attention = {}) const {
    return denoise(x, sigmas, std::move(conditioning), noise, hooks, attention, guidance);
  }

  /// The same with a different guidance.
  template <class Noise, class Attention, class OwnGuidance>
  [[nodiscard]] at::Tensor denoise(const at::Tensor& x, std::span<const double> sigmas, Conditioning conditioning,
                                   Noise& noise, const RunHooks& hooks, const Attention& attention,
                                   const OwnGuidance& own) const {
    return denoise(x, sigmas, std::move(conditioning), noise, hooks, attention, own, sampler);
  }

  /// The same with a different sampler and guidance.
  template <class Noise, class Attention, class OwnGuidance, class OwnSampler>
  [[nodiscard]] at::Tensor denoise(const at::Tensor& x, std::span<const double> sigmas, Conditioning conditioning,
                                   Noise& noise, const RunHooks& hooks, const Attention& attention,
                                   const OwnGuidance& own, const OwnSampler& solver) const {
    const at::NoGradGuard no_grad;
    return with_memory_advice([&] {
      BranchNetwork<Network, Attention> network(unet_, std::move(conditioning), attention, execution);
      network.evaluate_at_once(branches_at_once);
      network.prepare(diffusion.schedule, sigmas);
      if constexpr (detail::may_fuse_steps<OwnGuidance, OwnSampler>) {
        const auto* table = detail::table_with_step(unet_.device());
        if (table != nullptr && !hooks.revise && branches_at_once == 0) {
          if (const auto steps = detail::fused_steps(own, solver, diffusion, sigmas); !steps.empty()) {
            return denoise_fused(network, *table, steps, x, noise, hooks);
          }
        }
      }
      auto denoiser = guided_denoiser(std::ref(network), own, diffusion.schedule, diffusion.prediction);
      NoiseAhead ahead(noise, static_cast<std::int64_t>(sigmas.size()) - 1, unet_.device());
      auto result = solver.sample(denoiser, x.to(unet_.device(), at::kFloat), sigmas, ahead, hooks);
      network.finish();
      return result;
    });
  }

  /// Latents of `denoise()` to pictures as a tensor.
  /// \return [B,3,H,W], nominally in [-1,1], not clamped, on the network's device
  /// \throws Error when the codec gives values that are not finite in fp32 too
  [[nodiscard]] at::Tensor decode_to_tensor(const at::Tensor& latents) const {
    const auto scaled = latents.to(unet_.device(), at::kFloat).div(codec_.scaling_factor());
    return finite_or_wider("vae decoder", [&](const Codec& codec) { return decode_checked(codec, scaled); });
  }

  /// Decodes the latents of `denoise()` to pictures.
  /// \throws Error when the codec gives values that are not finite in fp32 too, or one colour everywhere
  [[nodiscard]] std::vector<Image> decode(const at::Tensor& latents, Rounding rounding) const {
    auto images = tensor_to_images(decode_to_tensor(latents), rounding);
    for (std::size_t i = 0; i < images.size(); ++i) {
      require(!one_colour(images[i]),
              "picture {}: expected an image, found one colour everywhere: the weights do not belong together or are "
              "damaged",
              i);
    }
    return images;
  }

  /// The same with the rounding of `defaults.numerics`.
  [[nodiscard]] std::vector<Image> decode(const at::Tensor& latents) const {
    return decode(latents, rounding_of(defaults.numerics));
  }

  /// Shape [B,C,h,w] of the latents of pictures of `size`. \throws Error unless both sides are positive multiples of
  /// the codec's `downscale()`
  [[nodiscard]] std::vector<std::int64_t> latent_shape(std::int64_t batch, Size size) const {
    const auto f = codec_.downscale();
    require(size.width > 0 && size.height > 0 && size.width % f == 0 && size.height % f == 0,
            "size: expected positive multiples of {}, found {}x{}", f, size.width, size.height);
    return {batch, codec_.latent_channels(), size.height / f, size.width / f};
  }

  /// The start noise of a run, with unit variance and of `shape`: the settings' `latents`, or draw 0.
  /// \throws Error when the settings' latents have another shape
  template <class Noise>
  [[nodiscard]] at::Tensor start_noise(const RunSettings& settings, at::IntArrayRef shape, Noise& noise) const {
    auto drawn = noise.normal(shape, 0);
    if (!settings.latents.defined()) return drawn;
    require(settings.latents.sizes() == shape, "latents: expected {}, found {}", shape_text(shape),
            shape_text(settings.latents.sizes()));
    return settings.latents.to(at::kFloat);
  }

  /// Prompts to context.
  [[nodiscard]] const Encoder& text_encoder() const { return text_encoder_; }
  /// Pictures to latents and back.
  [[nodiscard]] const Codec& codec() const { return codec_; }
  /// The denoising network.
  [[nodiscard]] const Network& unet() const { return unet_; }
  /// Replaces it, e.g. by itself in a `DeepCache`. \throws Error unless it takes as many channels
  void set_unet(Network network) {
    require(network.in_channels() == unet_.in_channels(),
            "set_unet: expected a network with {} input channels, found {}", unet_.in_channels(),
            network.in_channels());
    unet_ = std::move(network);
  }

 private:
  /// `denoise` by the device's own operator for a whole step.
  template <class Branches, class Noise>
  [[nodiscard]] at::Tensor denoise_fused(Branches& network, const Kernels& table,
                                         const std::vector<detail::FusedStep>& steps, const at::Tensor& x, Noise& noise,
                                         const RunHooks& hooks) const {
    NoiseAhead ahead(noise, static_cast<std::int64_t>(steps.size()), unet_.device());
    const detail::FusedRun run{
        .parts = [&](const auto& step) { return network.input_parts(step.step, step.branches); },
        .take =
            [&](const at::Tensor& input, const auto& step, const GuidedStep& rest) {
              return network.take_step(input, step.timestep, step.step, step.branches, table, rest);
            },
        .noise = [&](const at::Tensor& like, const Step& step) { return step_noise(ahead, like, step); },
        .hooks = hooks};
    const double first_scale = diffusion.prediction.preconditioning(steps.front().step.sigma).c_in;
    auto result = detail::run_fused(run, steps, first_scale, x.to(unet_.device(), at::kFloat), unet_.dtype());
    network.finish();
    return result;
  }

  static bool all_finite(const at::Tensor& values) { return at::isfinite(values).all().template item<bool>(); }

  static bool one_colour(const Image& image) {
    const auto& p = image.pixels;
    if (p.size() <= 3) return false;
    for (std::size_t i = 3; i < p.size(); ++i) {
      if (p[i] != p[i - 3]) return false;
    }
    return true;
  }

  /// Some published autoencoders overflow in fp16. The call is then repeated in fp32 with a copy of the codec that
  /// shares the weights and widens them layer by layer (`compute_in`), so that no pipeline changes.
  template <class Evaluate>
  at::Tensor finite_or_wider(const char* what, Evaluate&& evaluate) const {
    const at::NoGradGuard no_grad;
    benchmark_convolutions(unet_.device());
    return with_memory_advice([&] {
      auto result = evaluate(codec_);
      if (all_finite(result)) return result;
      auto codec = codec_;
      if constexpr (requires { codec.compute_in(at::kFloat); }) {
        if (result.scalar_type() != at::kFloat) {
          codec.compute_in(at::kFloat);
          result = evaluate(codec);
          if (all_finite(result)) return result;
        }
      }
      const auto again = [&] { return evaluate(codec); };
      std::string layer;
      if constexpr (requires { codec.first_non_finite(again); }) layer = codec.first_non_finite(again);
      throw_error("{}: expected finite values, found NaN or infinity{}{} in fp32: its weights or its input are damaged",
                  what, layer.empty() ? "" : ", first in vae.", layer);
    });
  }

  Encoder text_encoder_;
  Codec codec_;
  Network unet_;
};

}  // namespace ip2p
