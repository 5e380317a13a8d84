#pragma once

/// \file
/// Null-text optimisation (Mokady et al. 2023): makes the inversion of a photograph work under guidance.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/guidance/concepts.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/train/adamw.hpp"

namespace ip2p {

/// Options of `null_text` in addition to the run's settings; the defaults are the published ones.
struct NullTextOptions {
  std::int64_t inner_steps = 10;   ///< Updates per step of the run, >= 1.
  double learning_rate = 1e-2;     ///< Times (1 - i / 100) at step i.
  double tolerance = 1e-5;         ///< A step ends early when its loss falls below this ...
  double tolerance_growth = 2e-5;  ///< ... plus this times i.
};

/// Null texts with which the guided run follows an inversion.
struct NullText {
  at::Tensor texts;                ///< [S,B,tokens,D], fp32, for `Conditioning::null_text`.
  at::Tensor reconstruction;       ///< [B,C,h,w], fp32, times `scaling_factor()`: result of the guided run back.
  std::vector<double> latent_mse;  ///< Between `reconstruction` and the photograph's latents, one each.
  /// [B,S,inner_steps], fp64: the loss before each update, in variance-preserving latents as published; NaN after a
  /// step ended early.
  at::Tensor losses;
};

namespace detail {

/// Null-text optimisation of one photograph of an inversion.
template <class Network, class Guidance, class ModelDiffusion>
class NullTextRun {
 public:
  NullTextRun(const Network& unet, const Guidance& guidance, const ModelDiffusion& diffusion,
              const Inversion& inversion, const NullTextOptions& options, const RunHooks& hooks)
      : unet_(unet),
        guidance_(guidance),
        diffusion_(diffusion),
        inversion_(inversion),
        options_(options),
        hooks_(hooks),
        trajectory_(inversion.trajectory.to(unet.device(), at::kFloat)) {}

  /// \param text, null_text [1,tokens,D]  \param losses [S,inner_steps], filled
  /// \return null texts [S,1,tokens,D] and the final latents [1,C,h,w]
  std::pair<at::Tensor, at::Tensor> operator()(std::int64_t photo, const at::Tensor& text, at::Tensor null_text,
                                               const at::Tensor& losses) const {
    std::vector<at::Tensor> found;
    auto x = trajectory_[0].narrow(0, photo, 1);
    for (const Step& step : steps_of(inversion_.levels)) {
      hooks_.check(step);
      const auto input = x.div(std::sqrt(1.0 + step.sigma * step.sigma));
      const auto times = no_gradients(
          [&] { return unet_.project_time(at::full({1}, diffusion_.schedule.sigma_to_t(step.sigma), x.options())); });
      const auto predict = [&](const at::Tensor& context) {
        return unet_(input, times, unet_.project_context(context), PlainAttention{}, step)
            .to(input.device(), at::kFloat);
      };
      const auto with_text = no_gradients([&] { return predict(text); });
      // The text branches of each step do not depend on the null text, so they are computed once.
      const auto arrive = [&](const at::Tensor& without_text) {
        std::vector<at::Tensor> stacked;
        for (const auto& branch : Guidance::branches) stacked.push_back(branch.text ? with_text : without_text);
        return ddim_step(x, guidance_.combine(at::cat(stacked), step), diffusion_.prediction, step.sigma,
                         step.sigma_next);
      };
      const auto wanted = trajectory_[step.index + 1].narrow(0, photo, 1);
      null_text = optimise(step, std::move(null_text), losses[step.index], [&](const at::Tensor& candidate) {
        return arrive(predict(candidate)).sub(wanted).square().mean().div(1.0 + step.sigma_next * step.sigma_next);
      });
      found.push_back(null_text);
      x = hooks_.finish(step, no_gradients([&] { return arrive(predict(null_text)); }));
    }
    const double last = inversion_.levels.back();
    return {at::stack(found), x.div(std::sqrt(1.0 + last * last))};
  }

 private:
  template <class Body>
  static auto no_gradients(Body&& body) {
    const at::NoGradGuard no_grad;
    return body();
  }

  /// Adam on the null text of `step`. \param losses [inner_steps], filled
  template <class Loss>
  at::Tensor optimise(const Step& step, at::Tensor null_text, const at::Tensor& losses, Loss&& loss_of) const {
    const at::AutoGradMode gradients(true);
    null_text = null_text.detach().clone().set_requires_grad(true);
    const auto i = static_cast<double>(step.index);
    AdamW adam({null_text}, {.weight_decay = 0.0});
    for (std::int64_t j = 0; j < options_.inner_steps; ++j) {
      const auto loss = loss_of(null_text);
      require(loss.requires_grad(),
              "null_text: expected a network through which gradients reach the text, found one without gradients");
      const double value = loss.template item<double>();
      require(std::isfinite(value), "null_text: step {} of {}: expected a finite loss, found {}", step.index + 1,
              step.count, value);
      adam.zero_gradients();
      loss.backward({}, false, false, at::TensorList(null_text));  // skips the weights' gradients
      adam.step(options_.learning_rate * (1.0 - i / 100.0));
      losses[j].fill_(value);
      if (value < options_.tolerance + i * options_.tolerance_growth) break;
    }
    return null_text.detach();
  }

  const Network& unet_;
  const Guidance& guidance_;
  const ModelDiffusion& diffusion_;
  const Inversion& inversion_;
  const NullTextOptions& options_;
  const RunHooks& hooks_;
  at::Tensor trajectory_;  ///< The inversion's, where the network computes.
};

}  // namespace detail

/// Optimises, step by step, the embedding of the empty text so that the run back under the pipeline's guidance stays on
/// the inversion's trajectory. The network's weights do not change and need no gradients, so a model loaded for
/// inference works. Memory is that of one evaluation with all its activations.
///
/// Reference: google/prompt-to-prompt `NullInversion.null_optimization`. Photographs are optimised one after another.
///
/// \param pipeline the one passed to `invert`, with the guidance that the edit will use (published:
///   `TextGuidance{7.5}`)
/// \param settings their negative prompt is the initial value at the first step (later steps start from the previous
///   result); their hooks see the guided run, for each photograph in turn
/// \throws Error for options out of range, a guidance that has no branch without text, and non-finite losses;
///   Cancelled
template <class Pipeline>
[[nodiscard]] NullText null_text(const Pipeline& pipeline, const Inversion& inversion,
                                 const NullTextOptions& options = {}, const RunSettings& settings = {}) {
  using Guidance = std::remove_cvref_t<decltype(pipeline.guidance)>;
  constexpr bool has_null_branch = [] {
    for (const auto& branch : Guidance::branches) {
      if (!branch.text) return true;
    }
    return false;
  }();
  static_assert(has_null_branch,
                "ip2p: null_text needs a pipeline whose guidance has a branch without text, e.g. TextGuidance");
  static_assert(
      requires(const Guidance& guidance, const at::Tensor& stacked, const Step& step) {
        guidance.combine(stacked, step);
      } && !over_estimates<Guidance>(),
      "ip2p: null_text needs a pipeline whose guidance combines predictions by `combine(stacked, step)`, e.g. "
      "TextGuidance");
  require(options.inner_steps >= 1, "null_text: expected inner_steps >= 1, found {}", options.inner_steps);
  require(inversion.steps() <= 100,
          "null_text: expected an inversion of at most 100 steps (the learning rate falls by 1 "
          "% per step), found {}",
          inversion.steps());
  const auto photos = inversion.trajectory.size(1);
  const auto given = pipeline.encode_text(inversion.prompts, settings.negative_prompt);
  const detail::NullTextRun run(pipeline.unet(), pipeline.guidance, pipeline.diffusion, inversion, options,
                                settings.hooks);

  NullText result;
  result.losses =
      at::full({photos, inversion.steps(), options.inner_steps}, std::numeric_limits<double>::quiet_NaN(), at::kDouble);
  std::vector<at::Tensor> texts, latents;
  with_memory_advice([&] {
    for (std::int64_t b = 0; b < photos; ++b) {
      const auto device = pipeline.unet().device();
      auto [found, clean] = run(b, given.text.narrow(0, b, 1).to(device),
                                given.null_text.narrow(0, b, 1).to(device, at::kFloat), result.losses[b]);
      texts.push_back(std::move(found));
      latents.push_back(std::move(clean));
    }
  });
  result.texts = at::cat(texts, 1);
  result.reconstruction = at::cat(latents);
  result.latent_mse = detail::mse_by_sample(result.reconstruction, inversion.clean());
  return result;
}

}  // namespace ip2p
