#pragma once

/// \file
/// DDIM inversion: finds the noise from which a deterministic run reproduces a photograph.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/io/psnr.hpp"
#include "ip2p/pipeline/latent_pipeline.hpp"
#include "ip2p/sampling/ddim.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"

namespace ip2p {

/// Options of `invert` in addition to the run's settings. The settings' steps apply to both the inversion and the run
/// back. The hooks see the inversion, whose steps increase the noise: `sigma` < `sigma_next`.
struct InversionOptions {
  /// Treats the photograph as noise-free, as diffusers' schedulers do by default. The published code treats it as a
  /// picture at the noise level of timestep 0.
  bool set_alpha_to_one = false;
};

/// Photographs, represented by deterministic runs that lead back to them.
///
/// Latents follow this library's convention for samplers, x = sqrt(1 + sigma^2) times the variance-preserving latents
/// of the papers. In both, the photographs' own latents are x0 times `scaling_factor()`.
struct Inversion {
  std::vector<std::string> prompts;  ///< One per photograph.
  /// The S + 1 noise levels of the run back, strictly decreasing; the last is the photograph's (see
  /// `InversionOptions::set_alpha_to_one`).
  std::vector<double> levels;
  at::Tensor trajectory;      ///< [S+1,B,C,h,w], fp32: latents at levels[i], from noise back to the photograph.
  at::Tensor reconstruction;  ///< [B,C,h,w], fp32, times `scaling_factor()`: result of the unguided run back.
  std::vector<Image> images;  ///< The reconstruction as pictures; empty if latents were inverted.

  std::vector<double> latent_mse;  ///< Between `reconstruction` and the photograph's latents, one per photograph.
  std::vector<double> psnr;        ///< Between `images` and the photographs, in dB; empty if latents were inverted.
  std::vector<double> codec_psnr;  ///< Of the codec's round trip alone, an upper bound for `psnr`.

  /// Steps of the run: S.
  [[nodiscard]] std::int64_t steps() const { return static_cast<std::int64_t>(levels.size()) - 1; }

  /// The photographs' latents [B,C,h,w], times `scaling_factor()`.
  [[nodiscard]] at::Tensor clean() const {
    return trajectory.select(0, trajectory.size(0) - 1).div(std::sqrt(1.0 + levels.back() * levels.back()));
  }

  /// Noise levels for a sampler: the last is 0, and `Ddim::final_sigma` must be levels.back().
  [[nodiscard]] std::vector<double> sigmas() const {
    auto result = levels;
    result.back() = 0.0;
    return result;
  }
};

/// The timesteps of the published inversion, for a model trained with `scheduler.noise`: 1, 1 + N/S, ... (leading
/// spacing and an offset of 1, regardless of the model's own configuration). Assign it to the pipeline:
/// `pipeline.diffusion.schedule = ip2p::ddim_schedule(config)`.
inline LinearSigmas ddim_schedule(const SchedulerConfig& scheduler) {
  auto schedule = LinearSigmas::from_config(scheduler);
  schedule.spacing = TimestepSpacing::leading;
  schedule.steps_offset = 1;
  return schedule;
}

namespace detail {

/// Mean squared difference per sample of [B,C,h,w].
inline std::vector<double> mse_by_sample(const at::Tensor& a, const at::Tensor& b) {
  const auto squares = a.sub(b.to(a.device())).square();
  std::vector<at::Tensor> means;
  for (std::int64_t i = 0; i < a.size(0); ++i) means.push_back(squares[i].mean());
  const auto found = at::stack(means).to(at::kCPU, at::kDouble);
  const auto* data = found.template const_data_ptr<double>();
  return {data, data + found.numel()};
}

/// One step of deterministic DDIM from noise level `from` to `to`, up or down.
/// \param output prediction of the network for `x` scaled to `from`
template <class Prediction>
at::Tensor ddim_step(const at::Tensor& x, const at::Tensor& output, const Prediction& prediction, double from,
                     double to) {
  const auto [c_in, c_skip, c_out] = prediction.preconditioning(from);
  if (from == 0.0) {
    // The limit of the direction (x - x0) / sigma is the prediction itself for noise and v. An x0 prediction does not
    // determine it.
    require(c_out == 0.0,
            "inversion: expected a model that predicts noise or v if the photograph counts as noise-free, found "
            "one that predicts x0");
    constexpr double nearly = 1e-9;
    return x.add(output, -prediction.preconditioning(nearly).c_out / nearly * to);
  }
  return euler_step(x, x.mul(c_skip).add(output, c_out), from, to);
}

/// The run back: deterministic DDIM from inversion.levels[0] to latents times `scaling_factor()`.
/// \param start [B,C,h,w] at inversion.levels[0]
template <class Pipeline, class Guidance, class Attention = PlainAttention>
at::Tensor run_back(const Pipeline& pipeline, const at::Tensor& start, const Inversion& inversion,
                    Conditioning conditioning, const Guidance& guidance, const RunHooks& hooks,
                    const Attention& attention = {}) {
  CounterNoise unused(0);
  return pipeline.denoise(start, inversion.sigmas(), std::move(conditioning), unused, hooks, attention, guidance,
                          Ddim{.final_sigma = inversion.levels.back()});
}

}  // namespace detail

/// Inverts latents: runs DDIM from the photograph to noise with its prompt and no guidance, then the run back.
///
/// The step from level a to b > a uses the network's prediction for the latents at a with the timestep of b, which is
/// the timestep that it will get on the way back. Reference: google/prompt-to-prompt `NullInversion.next_step`;
/// diffusers' `DDIMInverseScheduler` takes the same steps (its defaults differ: `set_alpha_to_one`, `steps_offset`,
/// clipping).
///
/// \param pipeline a `TextToImagePipeline`; its sampler and guidance are not used. As published, its schedule is
///   `ddim_schedule`
/// \param clean [B,C,h,w], times `scaling_factor()`  \param prompts one per photograph, describing it
/// \throws Error for options out of range and non-finite values; Cancelled
template <class Pipeline>
[[nodiscard]] Inversion invert(const Pipeline& pipeline, const at::Tensor& clean, std::span<const std::string> prompts,
                               const InversionOptions& options = {}, const RunSettings& settings = {}) {
  const at::NoGradGuard no_grad;
  const auto channels = pipeline.codec().latent_channels();
  require(clean.dim() == 4 && clean.size(1) == channels, "invert: expected latents [B,{},h,w], found {}", channels,
          shape_text(clean.sizes()));
  require(static_cast<std::int64_t>(prompts.size()) == clean.size(0),
          "invert: expected one prompt for each of {} photographs, found {}", clean.size(0), prompts.size());
  require(pipeline.unet().in_channels() == channels, "invert: expected a UNet with {} input channels, found {}",
          channels, pipeline.unet().in_channels());

  const auto& schedule = pipeline.diffusion.schedule;
  const auto steps = *pipeline.completed(settings).steps;
  Inversion result;
  result.prompts.assign(prompts.begin(), prompts.end());
  result.levels = schedule.sigmas(steps);
  // If the schedule already ends at the lowest trained level, no further step to it is possible.
  const double lowest = lowest_trained_sigma(schedule);
  if (!options.set_alpha_to_one && lowest < result.levels[static_cast<std::size_t>(steps) - 1]) {
    result.levels.back() = lowest;
  }

  const auto text = pipeline.encode_text(prompts);
  BranchNetwork network(pipeline.unet(), text, PlainAttention{}, pipeline.execution);
  const auto photo = clean.to(pipeline.unet().device(), at::kFloat);
  auto x = photo.mul(std::sqrt(1.0 + result.levels.back() * result.levels.back()));
  std::vector<at::Tensor> visited(result.levels.size());
  visited.back() = x;
  with_memory_advice([&] {
    for (std::size_t i = visited.size() - 1; i > 0; --i) {
      const double from = result.levels[i];
      const double to = result.levels[i - 1];
      const Step step{.index = steps - static_cast<std::int64_t>(i), .count = steps, .sigma = from, .sigma_next = to};
      settings.hooks.check(step);
      const auto scaled = x.div(std::sqrt(1.0 + from * from));
      const auto output = network(scaled, schedule.sigma_to_t(to), step, NoGuidance::branches).to(at::kFloat);
      x = settings.hooks.finish(step, detail::ddim_step(x, output, pipeline.diffusion.prediction, from, to));
      visited[i - 1] = x;
    }
  });
  network.finish();
  result.trajectory = at::stack(visited);
  result.reconstruction = detail::run_back(pipeline, x, result, text, NoGuidance{}, {.stop = settings.hooks.stop});
  result.latent_mse = detail::mse_by_sample(result.reconstruction, photo);
  return result;
}

/// Inverts photographs: prepares and encodes them (with the mean of the codec's posterior), inverts the latents, and
/// also measures the reconstruction in pixels.
template <class Pipeline>
[[nodiscard]] Inversion invert(const Pipeline& pipeline, std::span<const Image> photos,
                               std::span<const std::string> prompts, const InversionOptions& options = {},
                               const RunSettings& settings = {}) {
  const auto run = pipeline.completed(settings);
  const auto rounding = rounding_of(*run.numerics);
  const auto pictures = prepare_photos(photos, run.resolution, *run.numerics);
  const auto clean = pipeline.clean_latents(pictures);
  auto result = invert(pipeline, clean, prompts, options, run);
  result.images = pipeline.decode(result.reconstruction, rounding);
  const auto prepared = tensor_to_images(pictures, Rounding::nearest);
  const auto round_trip = pipeline.decode(clean, rounding);
  for (std::size_t i = 0; i < prepared.size(); ++i) {
    result.psnr.push_back(psnr(result.images[i], prepared[i]));
    result.codec_psnr.push_back(psnr(round_trip[i], prepared[i]));
  }
  return result;
}

/// Inverts one photograph.
template <class Pipeline>
[[nodiscard]] Inversion invert(const Pipeline& pipeline, const Image& photo, const std::string& prompt,
                               const InversionOptions& options = {}, const RunSettings& settings = {}) {
  return invert(pipeline, std::span(&photo, 1), std::span(&prompt, 1), options, settings);
}

}  // namespace ip2p
