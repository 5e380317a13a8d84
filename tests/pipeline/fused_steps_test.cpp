#include "ip2p/pipeline/fused_steps.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>

#include <cstdint>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "ip2p/execution/graphed.hpp"
#include "ip2p/guidance/adaptive_projected_guidance.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "ip2p/guidance/scheduled.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/testing/rerun_recorder.hpp"
#include "ip2p/unet/deep_cache.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"

// Whole steps by an operator of the device. A CPU has none, so one that counts its calls is registered here.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

std::int64_t fused_calls = 0;

GuidedStepResult counted_step(const GuidedStep& step) {
  ++fused_calls;
  return libtorch_kernels().guided_step(step);
}

/// Registers the CPU's table with a step that counts, for as long as it lives.
class CountedSteps {
 public:
  CountedSteps() {
    static const Kernels table = [] {
      auto kernels = cpu_kernels();
      kernels.guided_step = counted_step;
      return kernels;
    }();
    fused_calls = 0;
    before_ = register_kernels(at::kCPU, &table);
  }
  ~CountedSteps() { register_kernels(at::kCPU, before_); }
  CountedSteps(const CountedSteps&) = delete;
  CountedSteps& operator=(const CountedSteps&) = delete;

 private:
  const Kernels* before_;
};

const RunSettings fused_run{.steps = 7, .seed = 3, .resolution = 64};

template <class Sampler, class Guidance>
auto fused_editor(Sampler sampler, Guidance guidance) {
  const auto files = tiny_files();
  return EditPipeline{load<ClipTextEncoder>(files),
                      load<KlAutoencoder>(files),
                      load<UNet>(files),
                      diffusion_of(files),
                      sampler,
                      guidance};
}

at::Tensor fused_latents(const auto& edit, const RunSettings& settings = fused_run, std::size_t count = 1) {
  static const std::vector<std::string> instructions{"make it snowy", "turn it into a painting"};
  const auto photo = tiny_photo();
  return edit.run({&photo, 1}, std::span(instructions).first(count), settings).latents;
}

/// Steps that `run()`, a tensor, takes by the operator; its result is the composed run's up to rounding.
/// \param limit of the difference, as a share of the largest value
template <class Run>
std::int64_t fused_steps_of(Run&& run, double limit = 1e-5) {
  const at::Tensor expected = run();
  const CountedSteps counted;
  const at::Tensor found = run();
  const auto error = (found - expected).abs().max().template item<double>();
  INFO(error / expected.abs().max().template item<double>());
  CHECK(error <= limit * expected.abs().max().template item<double>());
  if (fused_calls == 0) CHECK(at::equal(found, expected));
  return fused_calls;
}

template <class Sampler = EulerAncestral, class Guidance = DualGuidance>
std::int64_t fused_steps_with(Sampler sampler, Guidance guidance = {}) {
  const auto edit = fused_editor(sampler, guidance);
  return fused_steps_of([&] { return fused_latents(edit); });
}

}  // namespace

TEST_CASE("Samplers of Euler's family take each step by one operator where the device has one", "[pipeline][fused]") {
  CHECK(fused_steps_with(EulerAncestral{}) == 7);
  CHECK(fused_steps_with(EulerAncestral{.eta = 0.5, .s_noise = 1.1}) == 7);
  CHECK(fused_steps_with(Euler{}) == 7);
  CHECK(fused_steps_with(Ddim{.eta = 0.5}) == 7);
  CHECK(fused_steps_with(Ddpm{.variance = DdpmVariance::fixed_large}) == 7);
  CHECK(fused_steps_with(AnySampler::named("euler-ancestral")) == 7);

  CHECK(fused_steps_with(Euler{.churn = {.s_churn = 2.0}}) == 0);
  CHECK(fused_steps_with(Ddim{.final_sigma = 0.02}) == 0);
  CHECK(fused_steps_with(Heun{}) == 0);
  CHECK(fused_steps_with(AnySampler::named("dpm++-2m")) == 0);
}

TEST_CASE("Linear guidances of predictions do, with the branches that each step needs", "[pipeline][fused]") {
  CHECK(fused_steps_with(EulerAncestral{}, LimitedInterval{DualGuidance{}, 0.5, 5.0}) == 7);
  CHECK(fused_steps_with(EulerAncestral{}, DualGuidance{.image_scale = 1.0, .text_scale = 7.5}) == 7);
  CHECK(fused_steps_with(Euler{}, NoGuidance{}) == 7);
  CHECK(fused_steps_with(Euler{}, Scheduled([](const Step& step) {
                           return DualGuidance{.text_scale = 7.5 * (1.0 - step.progress())};
                         })) == 7);

  CHECK(fused_steps_with(EulerAncestral{}, Rescaled<DualGuidance>{}) == 0);
  CHECK(fused_steps_with(EulerAncestral{}, AdaptiveProjectedGuidance<DualGuidance>{}) == 0);
}

TEST_CASE("Every way of running a pipeline may do so", "[pipeline][fused]") {
  auto edit = fused_editor(EulerAncestral{}, DualGuidance{});
  CHECK(fused_steps_of([&] { return fused_latents(edit, fused_run, 2); }) == 7);
  const std::vector<std::string> prompt{"a red apple"};
  const auto generate = tiny_text_to_image();
  CHECK(fused_steps_of([&] { return generate.run(prompt, fused_run).latents; }) == 7);
  const auto photo = tiny_photo();
  const double one_level = 1.01 / 127.5;  // a value that rounds up in one run and down in the other
  CHECK(fused_steps_of(
            [&] {
              const auto image = sdedit(generate, photo, prompt[0], {.strength = 0.6}, fused_run);
              return images_to_tensor({&image, 1});
            },
            one_level) == 4);

  // Null texts of each step, as from null-text optimisation.
  auto conditioning = generate.encode_text(prompt);
  conditioning.null_text = CounterNoise(6).normal({5, 1, conditioning.text.size(1), conditioning.text.size(2)}, 0);
  const auto sigmas = generate.diffusion.schedule.sigmas(5);
  CHECK(fused_steps_of([&] {
          TorchNoise noise(std::vector<std::uint64_t>{4});
          return generate.denoise(CounterNoise(5).normal({1, 4, 8, 8}, 0).mul(sigmas[0]), sigmas, conditioning, noise);
        }) == 5);

  EditPipeline cached{edit.text_encoder(), edit.codec(), DeepCache(edit.unet(), {.interval = 3}),
                      edit.diffusion,      edit.sampler, edit.guidance};
  CHECK(fused_steps_of([&] { return fused_latents(cached); }) == 7);

  // Branches one after another are put together first.
  edit.branches_at_once = 1;
  CHECK(fused_steps_of([&] { return fused_latents(edit); }) == 0);
}

TEST_CASE("Hooks see the same latents, change them in composed runs, and stop a run", "[pipeline][fused]") {
  const auto edit = fused_editor(EulerAncestral{}, DualGuidance{});
  auto settings = fused_run;
  std::vector<at::Tensor> seen;
  settings.hooks.on_step = [&](const Step&, const at::Tensor& latents) { seen.push_back(latents); };
  CHECK(fused_steps_of([&] {
          seen.clear();
          fused_latents(edit, settings);
          return at::stack(seen);
        }) == 7);
  settings.hooks = {};
  settings.hooks.revise = [](const Step& step, const at::Tensor& latents) {
    return step.index == 3 ? latents.mul(0.5) : latents;
  };
  CHECK(fused_steps_of([&] { return fused_latents(edit, settings); }) == 0);
  // Inpainting keeps the rest of the picture by such a hook.
  CHECK(fused_steps_of([&] {
          const auto image = masked_edit(edit, tiny_photo(), tiny_mask(), "make it snowy", fused_run);
          return images_to_tensor({&image, 1});
        }) == 0);

  const CountedSteps counted;
  std::stop_source stop;
  settings.hooks = {};
  settings.hooks.stop = stop.get_token();
  settings.hooks.on_step = [&](const Step& step, const at::Tensor&) {
    if (step.index == 2) stop.request_stop();
  };
  CHECK_THROWS_AS(fused_latents(edit, settings), Cancelled);
  CHECK(fused_calls == 3);
  // The composed run's errors.
  auto wrong = edit;
  wrong.sampler.eta = -1.0;
  CHECK_THROWS_WITH(fused_latents(wrong), Contains("EulerAncestral: expected eta >= 0, found -1"));
}

TEST_CASE("Recordings serve steps by one operator too", "[pipeline][fused][graphed]") {
  auto edit = fused_editor(EulerAncestral{}, LimitedInterval{DualGuidance{}, 0.5, 5.0});
  const CountedSteps counted;
  const auto expected = fused_latents(edit);
  const Graphed<RerunRecorder> graphed({.eager_first = 1});
  edit.execution = graphed;
  for (int i = 0; i < 2; ++i) CHECK(at::equal(fused_latents(edit), expected));
  // One for each set of branches, and one for each step from a set to the other.
  CHECK(graphed.counts().recorded == 4);
  CHECK(graphed.reason().empty());
  CHECK(fused_calls >= 21);

  // With one set, one recording holds the whole of every step, the operator included, and the last step too.
  auto plain = fused_editor(EulerAncestral{}, DualGuidance{});
  const auto with_noise = fused_latents(plain);
  const Graphed<RerunRecorder> whole({.eager_first = 1});
  plain.execution = whole;
  for (int i = 0; i < 2; ++i) CHECK(at::equal(fused_latents(plain), with_noise));
  CHECK(whole.counts().recorded == 1);
  CHECK(whole.counts().eager == 1);
  CHECK(whole.counts().replayed == 13);
}

TEST_CASE("LibTorch's own form of the step does not replace the composed run", "[pipeline][fused]") {
  static const Kernels table = cpu_kernels();
  CHECK(detail::table_with_step(at::kCPU) == nullptr);
  const auto* before = register_kernels(at::kCPU, &table);
  CHECK(detail::table_with_step(at::kCPU) == nullptr);
  register_kernels(at::kCPU, before);
}
