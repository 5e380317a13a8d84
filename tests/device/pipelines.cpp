// Whole runs on the device against the CPU: every sampler, guidance and attention policy, and every pipeline.

#include <ATen/DeviceAccelerator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "device/check.hpp"
#include "device/models.hpp"
#include "ip2p/attention/attention_reference.hpp"
#include "ip2p/execution/graphed.hpp"
#include "ip2p/guidance/guided_denoiser.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/pipeline/null_text.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/pair_generator.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/testing/rerun_recorder.hpp"
#include "pipeline/composition_lists.hpp"

#ifdef IP2P_HAS_CUDA
#include "ip2p/execution/cuda_graph.hpp"
#endif

namespace ip2p::device_check {

namespace {

/// A network's rounding errors, once more in each step of a run: the CPU's own bf16 differs from its fp32 by 3.8e-2.
constexpr double run = 6.0;

const std::vector<std::string> one_prompt{"make it a snowy evening"};
const std::vector<std::string> two_prompts{"a photograph of a house", "a photograph of a house in the snow"};

/// The pipelines at one place, over models that only they have.
struct Pipelines {
  Editor edit;
  TextToImage text;
  Inpainter inpaint;
};

/// The weights of a run, and the pipelines that were made of them.
class Models {
 public:
  explicit Models(const Settings& settings)
      : tokenizer_(published_tokenizer(settings)),
        text_(seeded<ClipTextModel>(checked_text(), 21)),
        codec_(seeded<KlAutoencoder>(checked_codec(settings.small), 22)) {
    for (const std::int64_t channels : {4, 8, 9}) {
      unets_.emplace(channels, seeded<UNet>(checked_unet(settings.small, channels), 23));
    }
  }

  /// Pipelines whose guidance and sampler are the caller's to change. Those of one place share their models, which are
  /// made and packed once.
  [[nodiscard]] Pipelines at_place(const Place& place) const {
    const auto key = std::tuple(place.device.str(), place.dtype, place.reference);
    const auto found = made_.find(key);
    return found != made_.end() ? found->second : made_.emplace(key, make(place)).first->second;
  }

  /// Text-to-image with plain weights, through which gradients pass.
  [[nodiscard]] TextToImage unfrozen(const Place& place) const {
    auto here = place;
    here.reference = true;
    return at_place(here).text;
  }

 private:
  [[nodiscard]] Pipelines make(const Place& place) const {
    const AnyTextEncoder encoder(ClipTextEncoder(tokenizer_, placed(text_, place)));
    const AnyCodec codec(placed(codec_, place));
    const auto unet = [&](std::int64_t channels) { return AnyNetwork(placed(unets_.at(channels), place)); };
    const auto diffusion = diffusion_of(SchedulerConfig{});
    return {{encoder, codec, unet(8), diffusion, AnySampler(EulerAncestral{}), DualGuidance{}},
            {encoder, codec, unet(4), diffusion, AnySampler(EulerAncestral{}), TextGuidance{}},
            {encoder, codec, unet(9), diffusion, AnySampler(EulerAncestral{}), TextGuidance{}}};
  }

  BpeTokenizer tokenizer_;
  ClipTextModel text_;
  KlAutoencoder codec_;
  std::map<std::int64_t, UNet> unets_;
  mutable std::map<std::tuple<std::string, at::ScalarType, bool>, Pipelines> made_;
};

std::int64_t side_of(const Settings& settings) { return settings.small ? 64 : 128; }

RunSettings run_settings(const Settings& settings, std::int64_t steps) {
  const auto side = side_of(settings);
  return {.steps = steps, .seed = 5, .resolution = side, .size = Size{side, side}};
}

void edit(const Settings& settings, Report& report) {
  const Models models(settings);
  const auto options = run_settings(settings, 4);
  const auto photo = patterned(side_of(settings), side_of(settings));
  parity(
      report, settings, "edit, from photograph to latents and pixels",
      [&](const Place& place) {
        const auto result = models.at_place(place).edit.run({&photo, 1}, one_prompt, options);
        return joined({result.latents, images_to_tensor(result.images)});
      },
      every_dtype, run);
  parity(
      report, settings, "edit of two at once, another noise source",
      [&](const Place& place) {
        auto noise = AnyNoise::named("counter", {3, 4});
        return models.at_place(place).edit.run({&photo, 1}, two_prompts, options, noise).latents;
      },
      every_dtype, run);
  parity(
      report, settings, "edit with torch's CUDA stream",
      [&](const Place& place) {
        auto noise = AnyNoise::named("cuda", {3});
        return models.at_place(place).edit.run({&photo, 1}, one_prompt, options, noise).latents;
      },
      every_dtype, run);
  parity(
      report, settings, "edit, branch by branch",
      [&](const Place& place) {
        auto pipeline = models.at_place(place).edit;
        pipeline.branches_at_once = 1;
        return pipeline.run({&photo, 1}, one_prompt, options).latents;
      },
      every_dtype, run);
}

void samplers(const Settings& settings, Report& report) {
  const Models models(settings);
  const auto options = run_settings(settings, 4);
  for (const auto name : AnySampler::names()) {
    parity(
        report, settings, std::string(name),
        [&](const Place& place) {
          auto pipeline = models.at_place(place).text;
          pipeline.sampler = AnySampler::named(name);
          TorchNoise noise(7);
          return pipeline.sample(one_prompt, options, noise);
        },
        every_dtype, run);
  }
}

/// Three steps of one run of a guidance over predictions that do not depend on the latents, in the dtype of the place.
template <class Guidance>
void check_guidance(const Settings& settings, Report& report, std::size_t number, const Guidance& guidance) {
  const auto name = fmt::format("guidance {} of the list of all, {} branches", number, Guidance::branches.size());
  parity(report, settings, name, [&](const Place& place) {
    const auto network = [&](const at::Tensor& x, double, const Step& step, std::span<const Branch> branches) {
      const auto rows = static_cast<std::int64_t>(branches.size()) * x.size(0);
      return CounterNoise(8).normal({rows, 4, 8, 8}, step.index).to(place.device, place.dtype);
    };
    const auto diffusion = diffusion_of(SchedulerConfig{});
    auto denoiser = guided_denoiser(network, guidance, diffusion.schedule, diffusion.prediction);
    std::vector<at::Tensor> estimates;
    for (const Step& step : steps_of(diffusion.schedule.sigmas(3))) {
      estimates.push_back(denoiser(CounterNoise(9).normal({2, 4, 8, 8}, step.index).to(place.device), step));
    }
    return joined(estimates);
  });
}

void guidances(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  std::apply(
      [&](const auto&... guidance) {
        std::size_t number = 0;
        (check_guidance(settings, report, ++number, guidance), ...);
      },
      testing::composed_guidances());
}

/// Policies that change the attention of two pictures, each for one run: recorders belong to one. The last one's
/// recorder also revises the latents.
std::vector<std::pair<AttentionReference, RunHooks>> policies() {
  std::vector<std::pair<AttentionReference, RunHooks>> all;
  const auto add = [&](const auto& policy, RunHooks hooks = {}) {
    using Policy = std::remove_cvref_t<decltype(policy)>;
    all.emplace_back(AttentionReference(std::make_shared<const Policy>(policy)), std::move(hooks));
  };
  std::apply([&](const auto&... policy) { (add(policy), ...); }, testing::composed_attentions());
  const auto blend = LocalBlend{.words = {{5}, {5}}, .start_blend = 0.0}.start();
  add(Observed(PromptToPrompt{WordSwap{at::eye(77).unsqueeze(0)}}, blend),
      {.revise = [blend](const Step& step, const at::Tensor& latents) { return blend->revise(step, latents); }});
  return all;
}

void attentions(const Settings& settings, Report& report) {
  const Models models(settings);
  const auto count = policies().size();
  for (std::size_t i = 0; i < count; ++i) {
    const bool blends = i + 1 == count;
    // A mask has hard edges: in 16 bits one of its few pixels may fall on the other side, so that fp32 alone is
    // compared.
    parity(
        report, settings, blends ? "word swap under a local blend" : fmt::format("policy {} of the list of all", i + 1),
        [&](const Place& place) {
          auto own = policies();
          auto options = run_settings(settings, 3);
          options.hooks = own[i].second;
          TorchNoise noise(std::vector<std::uint64_t>{7, 8});
          return models.at_place(place).text.sample(two_prompts, options, noise, own[i].first);
        },
        blends ? std::vector{at::kFloat} : every_dtype, run);
  }
}

template <class Graphs>
std::string counts_text(const Graphs& graphed) {
  const auto counts = graphed.counts();
  const auto reason = graphed.reason();
  return fmt::format("{} recorded, {} replayed, {} at once{}{}", counts.recorded, counts.replayed, counts.eager,
                     reason.empty() ? "" : ", because ", reason);
}

/// A graph repeats what was recorded: the same bits as without.
template <class Recorder>
void graphs_by(const Settings& settings, Report& report) {
  const Models models(settings);
  const auto options = run_settings(settings, 8);
  const auto photo = patterned(side_of(settings), side_of(settings));
  for (const auto dtype : every_dtype) {
    const auto name = fmt::format("edit, {}", dtype_name(dtype));
    report.attempt(name, [&] {
      auto pipeline = models.at_place({.device = settings.device, .dtype = dtype}).edit;
      const auto latents = [&] { return pipeline.run({&photo, 1}, one_prompt, options).latents; };
      const auto eager = latents();
      report.expect(name + ", the same bits twice without a graph", latents().equal(eager), "");
      const Graphed<Recorder> graphed;
      pipeline.execution = graphed;
      const auto first = latents(), second = latents();
      const auto counts = graphed.counts();
      report.expect(
          name + ", bit for bit as without a graph", first.equal(eager) && second.equal(eager),
          fmt::format("errors {:.1e} and {:.1e}", relative_error(first, eager), relative_error(second, eager)));
      report.expect(name + ", recorded and replayed", counts.recorded > 0 && counts.replayed > 0, counts_text(graphed));
    });
  }
  // Work that cannot be recorded leaves the device as it was.
  if (settings.device.is_cuda()) {
    report.attempt("after a recording that failed", [&] {
      const auto ones = at::ones({16}, at::TensorOptions().device(settings.device));
      bool refused = false;
      try {
        static_cast<void>(
            Recorder{}.record(ones.device(), [&] { return std::vector{ones + ones.sum().item<float>()}; }));
      } catch (const std::exception&) {
        refused = true;
      }
      report.expect("a host read is not recorded", refused, "");
      at::accelerator::emptyCache();
      report.expect("random numbers work after it", at::randn({16}, ones.options()).isfinite().all().item<bool>(), "");
      auto recording = Recorder{}.record(ones.device(), [&] { return std::vector{ones + 1}; });
      recording.replay();
      report.expect("recordings work after it", recording.outputs()[0].equal(ones + 1), "");
    });
  }
}

void graphs(const Settings& settings, Report& report) {
#ifdef IP2P_HAS_CUDA
  if (settings.device.is_cuda()) return graphs_by<CudaGraph>(settings, report);
#endif
  graphs_by<testing::RerunRecorder>(settings, report);
}

void inpainting(const Settings& settings, Report& report) {
  const Models models(settings);
  const auto side = side_of(settings);
  const auto options = run_settings(settings, 3);
  const auto photo = patterned(side, side);
  Image mask{side, side, std::vector<std::uint8_t>(static_cast<std::size_t>(side * side * 3))};
  for (std::size_t i = mask.pixels.size() / 2; i < mask.pixels.size(); ++i) mask.pixels[i] = 255;
  const auto picture = prepare_photos({&photo, 1}, side, Numerics::released);
  const auto where = mask_tensor(mask, side, Numerics::released);
  for (const double strength : {1.0, 0.7}) {
    parity(
        report, settings, fmt::format("inpainting model, strength {}", strength),
        [&](const Place& place) {
          TorchNoise noise(4);
          return models.at_place(place).inpaint.sample(picture, where, one_prompt, strength, options, noise);
        },
        every_dtype, run);
    parity(
        report, settings, fmt::format("inpainting by holding the outside, strength {}", strength),
        [&](const Place& place) {
          const auto parts = models.at_place(place).text;
          const Inpainter pipeline(parts.text_encoder(), parts.codec(), parts.unet(), parts.diffusion, parts.sampler,
                                   TextGuidance{});
          TorchNoise noise(4);
          return pipeline.sample(picture, where, one_prompt, strength, options, noise);
        },
        every_dtype, run);
  }
  // Only its pixels come out, whose rounding to whole levels is an error of its own: half of them may differ by one.
  parity(
      report, settings, "masked edit, pixels",
      [&](const Place& place) {
        const auto edited = masked_edit(models.at_place(place).edit, photo, mask, one_prompt[0], options);
        return images_to_tensor({&edited, 1});
      },
      {at::kBFloat16, at::kHalf}, run);
  report.attempt("masked edit, fp32, levels", [&] {
    const auto at_place = [&](const Place& place) {
      const auto edited = masked_edit(models.at_place(place).edit, photo, mask, one_prompt[0], options);
      return to_tensor(edited).to(at::kFloat);
    };
    const auto apart = at_place({.device = settings.device}).sub(at_place({.reference = true})).abs();
    report.compare("masked edit, fp32, levels of 255 by which a pixel differs", apart.max().item<double>(), 1.0);
  });
}

void baselines(const Settings& settings, Report& report) {
  const Models models(settings);
  const auto side = side_of(settings);
  const auto photo = patterned(side, side);
  parity(
      report, settings, "SDEdit",
      [&](const Place& place) {
        return sdedit(models.at_place(place).text, std::span(&photo, 1), one_prompt, {.strength = 0.75},
                      run_settings(settings, 4))
            .latents;
      },
      every_dtype, run);
  const auto clean = CounterNoise(12).normal({1, 4, side / 8, side / 8}, 0).mul(0.8);
  parity(
      report, settings, "DDIM inversion and the run back",
      [&](const Place& place) {
        auto pipeline = models.at_place(place).text;
        pipeline.diffusion.schedule = ddim_schedule({});
        const auto found = invert(pipeline, clean, one_prompt, {}, run_settings(settings, 4));
        return joined({found.trajectory, found.reconstruction});
      },
      every_dtype, run);
  // Adam's first steps have the sign of the gradient, which rounding in 16 bits decides where it is nearly zero.
  parity(report, settings, "null-text optimisation",
         [&](const Place& place) {
           auto pipeline = models.unfrozen(place);
           pipeline.diffusion.schedule = ddim_schedule({});
           const auto found = invert(pipeline, clean, one_prompt, {}, run_settings(settings, 3));
           const auto optimised = null_text(pipeline, found, {.inner_steps = 2});
           return joined({optimised.reconstruction, optimised.losses});
         },
         {at::kFloat});
  // Its guidance, up to 15, doubles what rounding adds to a step.
  parity(
      report, settings, "pair generation",
      [&](const Place& place) {
        const auto pipeline = models.at_place(place).text;
        const PairGenerator generator(pipeline, run_settings(settings, 4));
        return generator.latents(two_prompts[0], two_prompts[1], pair_samples(1, 2, 0, 2));
      },
      every_dtype, 2.0 * run);
}

}  // namespace

std::vector<Part> pipeline_steps() {
  return {{"edit", false, edit},           {"samplers", false, samplers},
          {"guidances", false, guidances}, {"attentions", false, attentions},
          {"graphs", false, graphs},       {"inpainting", false, inpainting},
          {"baselines", false, baselines}};
}

}  // namespace ip2p::device_check
