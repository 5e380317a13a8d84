#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/observed.hpp"
#include "ip2p/attention/prompt_to_prompt.hpp"
#include "ip2p/attention/self_replace.hpp"
#include "ip2p/attention/store_maps.hpp"
#include "ip2p/core/any_noise.hpp"
#include "ip2p/guidance/adaptive_projected_guidance.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/guidance/per_image_text_guidance.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/kernels/table.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/fused_steps.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/pipeline/model_diffusion.hpp"
#include "ip2p/pipeline/pair_generator.hpp"
#include "ip2p/pipeline/prompt_to_prompt.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/testing/model_archetypes.hpp"
#include "support/catch.hpp"
#include "support/elsewhere.hpp"

using namespace ip2p;
using ip2p::testing::elsewhere;
using ip2p::testing::NetworkElsewhere;
using ip2p::testing::Traffic;

namespace {

constexpr std::int64_t pictures = 2, side = 8;

Conditioning conditioning(std::int64_t image_channels = 0) {
  Conditioning given{.text = at::zeros({pictures, 5, 6}), .null_text = at::zeros({pictures, 5, 6}, elsewhere())};
  if (image_channels > 0) given.image = at::zeros({pictures, image_channels, side, side});
  return given;
}

/// Copies from the host, and reads by it, in a run of so many steps, as `LatentPipeline::denoise` makes it but for the
/// last check.
template <class Guidance, class Attention = PlainAttention>
std::pair<std::int64_t, std::int64_t> traffic_of(std::int64_t steps, const AnySampler& sampler,
                                                 const Guidance& guidance, const Attention& attention = {},
                                                 std::int64_t image_channels = 0) {
  ip2p::testing::lend_operators();
  const LinearSigmas schedule = LinearSigmas::from_config({});
  const auto sigmas = schedule.sigmas(steps);
  AnyNoise noise = TorchNoise(7);
  const Traffic traffic;
  BranchNetwork<NetworkElsewhere, Attention> network({.channels = 4 + image_channels}, conditioning(image_channels),
                                                     attention);
  network.check_every(1'000'000);
  network.prepare(schedule, sigmas);
  auto denoiser = guided_denoiser(std::ref(network), guidance, schedule, EpsPrediction{});
  NoiseAhead ahead(noise, steps, elsewhere());
  const auto x = at::zeros({pictures, 4, side, side}, elsewhere());
  CHECK(sampler.sample(denoiser, x, sigmas, ahead).device() == elsewhere());
  return {traffic.copies(), traffic.reads()};
}

/// The same of a run by `Kernels::guided_step`, with an image as the network's further channels.
std::pair<std::int64_t, std::int64_t> traffic_of_fused(std::int64_t steps) {
  ip2p::testing::lend_operators();
  const ModelDiffusion diffusion = diffusion_of(SchedulerConfig{});
  const auto sigmas = diffusion.schedule.sigmas(steps);
  TorchNoise noise(7);
  const Traffic traffic;
  BranchNetwork<NetworkElsewhere> network({.channels = 8}, conditioning(4));
  network.check_every(1'000'000);
  network.prepare(diffusion.schedule, sigmas);
  NoiseAhead ahead(noise, steps, elsewhere());
  const auto plan = detail::fused_steps(DualGuidance{}, EulerAncestral{}, diffusion, sigmas);
  const RunHooks hooks;
  const detail::FusedRun run{.parts = [&](const auto& step) { return network.input_parts(step.step, step.branches); },
                             .take =
                                 [&](const at::Tensor& input, const auto& step, const GuidedStep& rest) {
                                   return network.take_step(input, step.timestep, step.step, step.branches,
                                                            libtorch_kernels(), rest);
                                 },
                             .noise = [&](const at::Tensor& x, const Step& step) { return step_noise(ahead, x, step); },
                             .hooks = hooks};
  const auto x = at::zeros({pictures, 4, side, side}, elsewhere());
  CHECK(detail::run_fused(run, plan, 0.07, x, at::kFloat).device() == elsewhere());
  return {traffic.copies(), traffic.reads()};
}

/// A codec that computes on the CPU whatever it is given.
struct CodecHere : ip2p::testing::CodecArchetype {
  CodecHere() : CodecArchetype(8) {}
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const {
    return at::zeros({images.size(0), 3, images.size(2) / 8, images.size(3) / 8});
  }
};

/// A codec and a text encoder on the CPU, a network elsewhere.
auto pipeline() {
  return TextToImagePipeline{ip2p::testing::TextEncoderArchetype(5, 6), CodecHere{},
                             NetworkElsewhere{.channels = 3, .latents = 3}, diffusion_of(SchedulerConfig{})};
}

/// Runs something whose network is elsewhere. No result can be read there, so that the run must fail at its end, and
/// there only: `hooks` see all of its steps.
template <class Run>
void check_steps(std::int64_t steps, Run&& run) {
  ip2p::testing::lend_operators();
  std::int64_t seen = 0;
  const RunHooks hooks{.on_step = [&](const Step& step, const at::Tensor& latents) {
    CHECK(latents.device() == elsewhere());
    CHECK(step.index == seen++);
  }};
  CHECK_THROWS_WITH(run(hooks), Catch::Contains("meta"));
  CHECK(seen == steps);
}

}  // namespace

TEST_CASE("No step of a run copies anything from the host or reads a value, whatever the sampler", "[pipeline]") {
  for (const auto name : AnySampler::names()) {
    INFO(name);
    const auto sampler = AnySampler::named(name);
    CHECK(traffic_of(6, sampler, TextGuidance{}) == traffic_of(18, sampler, TextGuidance{}));
  }
}

TEST_CASE("No step that is one operator copies anything from the host or reads a value", "[pipeline][fused]") {
  CHECK(traffic_of_fused(6) == traffic_of_fused(18));
}

TEST_CASE("No step of a run copies anything from the host, whatever the guidance", "[pipeline]") {
  const AnySampler sampler = EulerAncestral{};
  const auto steady = [&](const auto& guidance, std::int64_t image_channels = 0) {
    CHECK(traffic_of(6, sampler, guidance, PlainAttention{}, image_channels) ==
          traffic_of(18, sampler, guidance, PlainAttention{}, image_channels));
  };
  steady(TextGuidance{});
  steady(NoGuidance{});
  steady(PerImageTextGuidance{.text_scales = {5.0, 9.0}});
  steady(PerImageTextGuidance{.text_scales = {5.0}});
  steady(DualGuidance{}, 4);
  steady(AdaptiveProjectedGuidance{DualGuidance{}}, 4);
  steady(Rescaled{DualGuidance{}, 0.7}, 4);
  steady(LimitedInterval{TextGuidance{}, 0.1, 5.0});
}

TEST_CASE("Edits of attention copy from the host once a run", "[pipeline]") {
  const AnySampler sampler = EulerAncestral{};
  const auto steady = [&](const auto& make) {
    const auto few = traffic_of(6, sampler, TextGuidance{}, make());
    CHECK(few.first > 0);
    CHECK(few == traffic_of(18, sampler, TextGuidance{}, make()));
  };
  steady([] { return PromptToPrompt{KeepSource{.count = 1, .tokens = 5}, {.common = {0.0, 1.0}}}; });
  steady([] { return Observed(PlainAttention{}, StoreMaps{}.start()); });
  // One of two pairs follows its source to the end, so that the rows are divided at every step.
  steady([] { return SelfReplace{.shares = {0.0, 2.0}, .group = 1}; });
}

TEST_CASE("Pipelines move what they are given to the network's device", "[pipeline]") {
  const auto plain = pipeline();
  const std::vector<std::string> one{"a horse"}, two{"a horse", "a cow"};
  const auto clean = at::randn({1, 3, side, side});
  const auto settings = [](const RunHooks& hooks) {
    return RunSettings{.steps = 5, .size = Size{64, 64}, .latents = at::randn({1, 3, side, side}), .hooks = hooks};
  };
  TorchNoise noise(1);
  check_steps(5, [&](const RunHooks& hooks) { return plain.sample(one, settings(hooks), noise); });
  check_steps(4, [&](const RunHooks& hooks) { return sdedit_latents(plain, clean, one, 0.8, settings(hooks), noise); });
  check_steps(5, [&](const RunHooks& hooks) { return invert(plain, clean, one, {}, settings(hooks)); });
  check_steps(5, [&](const RunHooks& hooks) {
    const std::vector<PairSample> samples{{.seed = 1, .share = 0.3}, {.seed = 2, .share = 0.8, .text_scale = 9.0}};
    return PairGenerator(plain, {.steps = 5, .size = Size{64, 64}, .hooks = hooks}).latents("a", "b", samples);
  });

  Inversion inversion;
  inversion.prompts = one;
  inversion.levels = LinearSigmas::from_config({}).sigmas(5);
  inversion.levels.back() = 1e-3;
  inversion.trajectory = at::randn({6, 1, 3, side, side});
  check_steps(5, [&](const RunHooks& hooks) {
    return prompt_to_prompt(plain, inversion, at::zeros({5, 1, 5, 6}), two, PlainAttention{}, {}, {.hooks = hooks});
  });
}

TEST_CASE("An edit and an inpainting move pictures, masks and image latents", "[pipeline]") {
  const std::string prompt = "a horse";
  const auto photo = at::zeros({1, 3, 64, 64});
  const auto mask = at::zeros({1, 1, 64, 64});
  TorchNoise noise(1);
  for (const std::int64_t channels : {3, 7}) {
    INFO(channels);
    const InpaintPipeline inpaint{ip2p::testing::TextEncoderArchetype(5, 6), CodecHere{},
                                  NetworkElsewhere{.channels = channels, .latents = 3},
                                  diffusion_of(SchedulerConfig{})};
    check_steps(4, [&](const RunHooks& hooks) {
      return inpaint.sample(photo, mask, {&prompt, 1}, 0.8, {.steps = 5, .hooks = hooks}, noise);
    });
  }
  const EditPipeline edit{ip2p::testing::TextEncoderArchetype(5, 6), CodecHere{},
                          NetworkElsewhere{.channels = 6, .latents = 3}, diffusion_of(SchedulerConfig{})};
  check_steps(5, [&](const RunHooks& hooks) {
    return edit.sample_latents(at::zeros({1, 3, side, side}), {&prompt, 1}, {.steps = 5, .hooks = hooks}, noise);
  });
  check_steps(5, [&](const RunHooks& hooks) {
    auto held = hooks;
    held.revise = hold_outside(latent_mask(mask, side, side), at::zeros({1, 3, side, side}, elsewhere()),
                               at::randn({1, 3, side, side}));
    return edit.sample_latents(at::zeros({1, 3, side, side}), {&prompt, 1}, {.steps = 5, .hooks = held}, noise);
  });
}

TEST_CASE("Latents that a hook moves to another device are refused in words", "[pipeline]") {
  const RunHooks hooks{.revise = [](const Step&, const at::Tensor& x) { return x.to(elsewhere()); }};
  CHECK_THROWS_WITH(hooks.finish({}, at::zeros({1, 4, 2, 2})),
                    Catch::Contains("revise: expected latents on cpu, found them on meta"));
}

TEST_CASE("Errors per sample and arcs between noises do not ask for one device", "[pipeline]") {
  const auto a = at::randn({2, 4, 3, 3}), b = at::randn({2, 4, 3, 3});
  const auto found = ip2p::detail::mse_by_sample(a, b);
  REQUIRE(found.size() == 2);
  for (std::int64_t i = 0; i < 2; ++i) {
    CHECK(found[static_cast<std::size_t>(i)] == a.sub(b).square()[i].mean().item<double>());
  }
}
