#pragma once

/// \file
/// Prompt-to-Prompt (Hertz et al. 2022) on generated pictures and on photographs.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "ip2p/attention/local_blend.hpp"
#include "ip2p/core/shared_noise.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/pipeline/text_to_image.hpp"

namespace ip2p {

/// Options of `prompt_to_prompt` in addition to the run's settings.
struct PromptToPromptOptions {
  std::optional<LocalBlend> blend = {};  ///< Limits edits to where their words attend; empty: no limit.
};

namespace detail {

/// Calls `run(attention, hooks)`. The blend of `options`, if any, observes through the attention and revises through
/// the hooks.
template <class Attention, class Run>
at::Tensor with_blend(const Attention& attention, const PromptToPromptOptions& options, RunHooks hooks, Run&& run) {
  if (!options.blend) return run(attention, hooks);
  const auto blend = options.blend->start();
  hooks.revise =
      revise_in_turn([blend](const Step& step, const at::Tensor& latents) { return blend->revise(step, latents); },
                     std::move(hooks.revise));
  return run(Observed(attention, blend), hooks);
}

}  // namespace detail

/// Pictures of one group: the first prompt's, and its edits by the other prompts under `attention`. All share the start
/// noise and the noise of the steps.
///
/// As published, the schedule is `ddim_schedule(config)`, the sampler `Ddim{.final_sigma =
/// lowest_trained_sigma(schedule)}` with 50 steps, and the text scale 7.5.
///
/// \param pipeline a `TextToImagePipeline`
/// \param attention e.g. `PromptToPrompt{WordSwap::between(...)}` covering all edited prompts
/// \param settings one seed, whose noise all pictures share; `latents` [1,C,h,w]; `revise` is called after the blend
/// \throws Error for settings out of range, groups that do not fit the policy, non-finite or constant results;
/// Cancelled
template <class Pipeline, class Attention>
[[nodiscard]] PipelineResult prompt_to_prompt(const Pipeline& pipeline, std::span<const std::string> prompts,
                                              const Attention& attention, const PromptToPromptOptions& options = {},
                                              const RunSettings& settings = {}) {
  TorchNoise noise(seeds_for(1, settings.seed, settings.seeds));
  return prompt_to_prompt(pipeline, prompts, attention, options, settings, noise);
}

/// The same with a noise source of one's own, a variable or a temporary, asked for the noise of one picture.
template <class Pipeline, class Attention, class Noise>
[[nodiscard]] PipelineResult prompt_to_prompt(const Pipeline& pipeline, std::span<const std::string> prompts,
                                              const Attention& attention, const PromptToPromptOptions& options,
                                              const RunSettings& settings, Noise&& noise) {
  const auto group = static_cast<std::int64_t>(prompts.size());
  require(group >= 2, "prompt_to_prompt: expected the source's prompt and at least one edited prompt, found {}", group);
  auto run = pipeline.completed(settings);
  if (run.latents.defined()) {
    const auto shape = pipeline.latent_shape(1, picture_size(run));
    require(run.latents.sizes() == at::IntArrayRef(shape), "latents: expected {}, found {}", shape_text(shape),
            shape_text(run.latents.sizes()));
    run.latents = run.latents.expand({group, -1, -1, -1});
  }
  PipelineResult result;
  result.latents = detail::with_blend(attention, options, run.hooks, [&](const auto& attend, const RunHooks& hooks) {
    run.hooks = hooks;
    SharedNoise<std::remove_reference_t<Noise>&> shared(noise, group);
    return pipeline.sample(prompts, run, shared, attend).to(at::kCPU);
  });
  result.images = pipeline.decode(result.latents, rounding_of(*run.numerics));
  return result;
}

/// Edits a photograph through its prompt: the group is its reconstruction and the edits by the other prompts. The run
/// is the deterministic one of the inversion, under the pipeline's guidance.
///
/// \param inversion of one photograph; determines steps, size and start
/// \param null_texts `NullText::texts` [S,1,tokens,D], optimised for this inversion under the same guidance; undefined:
///   the negative prompt (the reconstruction then drifts from the photograph under strong guidance)
/// \param prompts the inversion's own first, then the edited ones
template <class Pipeline, class Attention>
[[nodiscard]] PipelineResult prompt_to_prompt(const Pipeline& pipeline, const Inversion& inversion,
                                              const at::Tensor& null_texts, std::span<const std::string> prompts,
                                              const Attention& attention, const PromptToPromptOptions& options = {},
                                              const RunSettings& settings = {}) {
  const auto group = static_cast<std::int64_t>(prompts.size());
  require(inversion.prompts.size() == 1, "prompt_to_prompt: expected the inversion of one photograph, found {}",
          inversion.prompts.size());
  require(group >= 2 && prompts[0] == inversion.prompts[0],
          "prompt_to_prompt: expected the inversion's prompt '{}' and at least one edited prompt, found {} beginning "
          "with '{}'",
          inversion.prompts[0], group, group == 0 ? "" : prompts[0]);
  auto conditioning = pipeline.encode_text(prompts, settings.negative_prompt);
  if (null_texts.defined()) {
    require(null_texts.dim() == 4 && null_texts.size(0) == inversion.steps() && null_texts.size(1) == 1,
            "prompt_to_prompt: null texts: expected [{},1,tokens,D] for an inversion of {} steps, found {}",
            inversion.steps(), inversion.steps(), shape_text(null_texts.sizes()));
    conditioning.null_text = null_texts.expand({-1, group, -1, -1});
  }
  const auto start = inversion.trajectory[0].expand({group, -1, -1, -1});
  PipelineResult result;
  result
      .latents = detail::with_blend(attention, options, settings.hooks, [&](const auto& attend, const RunHooks& hooks) {
    return detail::run_back(pipeline, start, inversion, conditioning, pipeline.guidance, hooks, attend).to(at::kCPU);
  });
  result.images = pipeline.decode(result.latents, rounding_of(*pipeline.completed(settings).numerics));
  return result;
}

}  // namespace ip2p
