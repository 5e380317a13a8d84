#pragma once

/// \file
/// Prompt-to-Prompt (Hertz et al. 2022) on generated pictures and on photographs.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "ip2p/attention/local_blend.hpp"
#include "ip2p/core/shared_noise.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/pipeline/text_to_image.hpp"

namespace ip2p {

/// Numbers of `prompt_to_prompt`. Of a photograph's run the inversion decides steps, size and start.
struct PromptToPromptOptions {
  std::int64_t steps = 50;           ///< >= 1.
  std::uint64_t seed = 42;           ///< Of the noise that all pictures share.
  std::string negative_prompt = {};  ///< Stands for the empty text where no null texts are given.
  std::int64_t width = 512;          ///< In pixels, a multiple of the codec's `downscale()`.
  std::int64_t height = 512;
  Numerics numerics = Numerics::released;  ///< How pictures are rounded.
  at::Tensor latents = {};                 ///< Start noise of unit variance, [1,C,h,w]; drawn when undefined.
  std::optional<LocalBlend> blend = {};    ///< Keeps edits where their words look; empty: everywhere.
  RunHooks hooks = {};                     ///< `revise` is asked after `blend`.
};

namespace detail {

/// Calls `run(attention, hooks)` with the blend of `options`, if any, watching the one and revising through the other.
template <AttentionPolicy Attention, class Run>
at::Tensor with_blend(const Attention& attention, const PromptToPromptOptions& options, Run&& run) {
  if (!options.blend) return run(attention, options.hooks);
  const auto blend = options.blend->start();
  RunHooks hooks = options.hooks;
  hooks.revise = then([blend](const Step& at, const at::Tensor& latents) { return blend->revise(at, latents); },
                      options.hooks.revise);
  return run(Observed(attention, blend), hooks);
}

}  // namespace detail

/// Pictures of one group: the first prompt's, and what the other prompts make of it under `attention`. All share start
/// noise and noise of the steps.
///
/// As published, with the sampler `Ddim{.final_sigma = ddim_schedule(scheduler).training.sigma_min()}`, 50 steps and a
/// text scale of 7.5; the timesteps are those of `ddim_schedule` whatever the sampler.
///
/// \param pipeline a `TextToImagePipeline`
/// \param attention e.g. `PromptToPrompt{WordSwap::between(...)}` for as many edited prompts as there are
/// \throws Error for options out of range, groups that do not fit the policy, non-finite or constant results; Cancelled
template <class Pipeline, AttentionPolicy Attention>
[[nodiscard]] PipelineResult prompt_to_prompt(Pipeline& pipeline, std::span<const std::string> prompts,
                                              const Attention& attention, const PromptToPromptOptions& options = {}) {
  const auto group = static_cast<std::int64_t>(prompts.size());
  require(group >= 2, "prompt_to_prompt: expected the source's prompt and at least one edited prompt, found {}", group);
  TextToImageOptions run{.steps = options.steps,
                         .negative_prompt = options.negative_prompt,
                         .width = options.width,
                         .height = options.height};
  if (options.latents.defined()) {
    const auto shape = pipeline.latent_shape(1, options.width, options.height);
    require(options.latents.sizes() == at::IntArrayRef(shape), "latents: expected {}, found {}", shape_text(shape),
            shape_text(options.latents.sizes()));
    run.latents = options.latents.expand({group, -1, -1, -1});
  }
  PipelineResult result;
  result.latents = detail::with_blend(attention, options, [&](const auto& attend, const RunHooks& hooks) {
    run.hooks = hooks;
    SharedNoise noise(TorchNoise(options.seed), group);
    return pipeline.sample(prompts, run, ddim_schedule(pipeline.scheduler), noise, attend).to(at::kCPU);
  });
  result.images = pipeline.decode(result.latents, options.numerics);
  return result;
}

/// Edits of a photograph by its prompt: the group is its reconstruction and what the edited prompts make of it. The run
/// is the deterministic one of the inversion, under the pipeline's guidance.
///
/// \param inversion of one photograph
/// \param null_texts `NullText::texts` [S,1,tokens,D], optimised for this inversion under the same guidance; undefined:
///   the negative prompt (the reconstruction then drifts away from the photograph where the guidance is strong)
/// \param prompts the inversion's own first, then the edited ones
template <class Pipeline, AttentionPolicy Attention>
[[nodiscard]] PipelineResult prompt_to_prompt(Pipeline& pipeline, const Inversion& inversion,
                                              const at::Tensor& null_texts, std::span<const std::string> prompts,
                                              const Attention& attention, const PromptToPromptOptions& options = {}) {
  const auto group = static_cast<std::int64_t>(prompts.size());
  require(inversion.prompts.size() == 1, "prompt_to_prompt: expected the inversion of one photograph, found {}",
          inversion.prompts.size());
  require(group >= 2 && prompts[0] == inversion.prompts[0],
          "prompt_to_prompt: expected the inversion's prompt '{}' and at least one edited prompt, found {} beginning "
          "with '{}'",
          inversion.prompts[0], group, group == 0 ? "" : prompts[0]);
  auto conditioning = pipeline.encode_text(prompts, options.negative_prompt);
  if (null_texts.defined()) {
    require(null_texts.dim() == 4 && null_texts.size(0) == inversion.steps() && null_texts.size(1) == 1,
            "prompt_to_prompt: null texts: expected [{},1,tokens,D] for an inversion of {} steps, found {}",
            inversion.steps(), inversion.steps(), shape_text(null_texts.sizes()));
    conditioning.null_text = null_texts.expand({-1, group, -1, -1});
  }
  const auto start = inversion.trajectory[0].expand({group, -1, -1, -1});
  PipelineResult result;
  result.latents = detail::with_blend(attention, options, [&](const auto& attend, const RunHooks& hooks) {
    return detail::run_back(pipeline, start, inversion, conditioning, pipeline.guidance, hooks, attend).to(at::kCPU);
  });
  result.images = pipeline.decode(result.latents, options.numerics);
  return result;
}

}  // namespace ip2p
