#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/self_replace.hpp"
#include "ip2p/core/autocast.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/execution/graphed.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/io/lora_file.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/nn/apply_lora.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/null_text.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/two_pass.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/testing/model_archetypes.hpp"
#include "ip2p/testing/rerun_recorder.hpp"
#include "ip2p/unet/any_network.hpp"
#include "ip2p/unet/deep_cache.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"

// Graphed execution gives the bits of Eager in every pipeline. The recorder runs the recorded work again on a CPU.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

using TestGraphs = Graphed<RerunRecorder>;

const std::vector<std::string> two_instructions{"make it snowy", "turn it into a painting"};
const RunSettings graphed_run{.steps = 7, .seed = 3, .resolution = 64};

/// The tiny editor.
template <class Guidance = DualGuidance>
auto tiny_graphed_editor(Guidance guidance = {}, LoadOptions options = {}) {
  const auto files = tiny_files();
  return EditPipeline{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), load<UNet>(files, options),
                      diffusion_of(files),          EulerAncestral{},           guidance};
}

/// Whether `run(pipeline)`, a tensor, is the same under recordings, twice in a row.
template <class Pipeline, class Run>
bool same_when_graphed(Pipeline pipeline, const TestGraphs& graphed, Run&& run) {
  pipeline.execution = Eager{};
  const at::Tensor expected = run(pipeline);
  pipeline.execution = graphed;
  return at::equal(run(pipeline), expected) && at::equal(run(pipeline), expected);
}

at::Tensor latents_of_edit(const auto& edit, const RunSettings& settings, std::size_t count = 1) {
  const auto photo = tiny_photo();
  return edit.run({&photo, 1}, std::span(two_instructions).first(count), settings).latents;
}

at::Tensor pixels_of(const Image& image) { return images_to_tensor({&image, 1}); }

}  // namespace

TEST_CASE("One recording serves all steps of an edit, and of the next", "[pipeline][graphed]") {
  const TestGraphs graphed;
  auto edit = tiny_graphed_editor({}, {.inference = false});
  const auto expected = latents_of_edit(edit, graphed_run);
  edit.execution = graphed;
  CHECK(at::equal(latents_of_edit(edit, graphed_run), expected));
  CHECK(graphed.counts().recorded == 1);
  CHECK(graphed.counts().replayed == 5);
  CHECK(graphed.reason().empty());
  CHECK(at::equal(latents_of_edit(edit, graphed_run), expected));
  CHECK(graphed.counts().recorded == 1);
  CHECK(graphed.counts().replayed == 12);
  // x and one row of time projections a step; texts and pictures once a run.
  const auto before = graphed.counts().copies;
  latents_of_edit(edit, {.steps = 30, .seed = 4, .resolution = 64});
  const auto longer = graphed.counts().copies - before;
  latents_of_edit(edit, {.steps = 31, .seed = 4, .resolution = 64});
  CHECK(graphed.counts().copies - before - longer == longer + 2);
}

TEST_CASE("Graphed execution gives the bits of eager execution in every pipeline", "[pipeline][graphed]") {
  const TestGraphs graphed({.recordings = 8});
  const std::vector<std::string> prompt{"a red apple"};
  const auto photo = tiny_photo();

  CHECK(same_when_graphed(tiny_graphed_editor(), graphed,
                          [&](const auto& edit) { return latents_of_edit(edit, graphed_run); }));
  CHECK(same_when_graphed(tiny_graphed_editor(), graphed, [&](const auto& edit) {
    return pixels_of(masked_edit(edit, photo, tiny_mask(), two_instructions[0], graphed_run));
  }));
  CHECK(same_when_graphed(tiny_text_to_image(Heun{}), graphed,
                          [&](const auto& generate) { return generate.run(prompt, graphed_run).latents; }));
  CHECK(same_when_graphed(tiny_text_to_image(AnySampler::named("dpm++-2m")), graphed, [&](const auto& generate) {
    return pixels_of(sdedit(generate, photo, prompt[0], {}, graphed_run));
  }));
  CHECK(same_when_graphed(tiny_text_to_image(), graphed, [&](const auto& generate) {
    return pixels_of(two_pass(generate, prompt[0], graphed_run, {.factor = 1.5}));
  }));
  const auto files = tiny_files();
  for (const std::int64_t channels : {4, 9}) {
    const InpaintPipeline inpaint{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), tiny_unet(channels),
                                  diffusion_of(files)};
    CHECK(same_when_graphed(inpaint, graphed, [&](const auto& pipeline) {
      return pixels_of(pipeline(photo, tiny_mask(), prompt[0], {}, graphed_run));
    }));
  }
  CHECK(graphed.reason().empty());
  CHECK(graphed.counts().recorded >= 7);
  CHECK(graphed.counts().replayed > 60);
}

TEST_CASE("Graphed execution follows inversion, and null texts that change at every step", "[pipeline][graphed]") {
  const TestGraphs graphed;
  const std::vector<std::string> prompt{"a red apple"};
  const auto clean = CounterNoise(5).normal({1, 4, 8, 8}, 0);
  const RunSettings settings{.steps = 6};
  CHECK(same_when_graphed(tiny_inverter(), graphed, [&](const auto& pipeline) {
    const auto inversion = invert(pipeline, clean, prompt, {}, settings);
    return at::stack({inversion.trajectory[0], inversion.reconstruction});
  }));
  CHECK(graphed.counts().recorded == 1);

  const auto inverter = tiny_inverter();
  const auto inversion = invert(inverter, clean, prompt, {}, settings);
  auto conditioning = inverter.encode_text(prompt);
  conditioning.null_text = CounterNoise(6).normal({6, 1, conditioning.text.size(1), conditioning.text.size(2)}, 0);
  CHECK(same_when_graphed(inverter, graphed, [&](const auto& pipeline) {
    return detail::run_back(pipeline, inversion.trajectory[0], inversion, conditioning, TextGuidance{3.0}, {});
  }));
  CHECK(graphed.counts().recorded == 2);
}

TEST_CASE("What changes between runs is not replayed as it was", "[pipeline][graphed]") {
  const TestGraphs graphed({.recordings = 3, .eager_first = 1});
  auto edit = tiny_graphed_editor();
  const auto same = [&](const RunSettings& settings, std::size_t count = 1) {
    return same_when_graphed(edit, graphed, [&](const auto& one) { return latents_of_edit(one, settings, count); });
  };
  CHECK(same(graphed_run));
  const auto first = latents_of_edit(edit, graphed_run);
  // Another text, picture, seed and number of steps need no other recording; another size and batch do.
  const auto recorded = graphed.counts().recorded;
  auto negative = graphed_run;
  negative.negative_prompt = "blurry";
  negative.seed = 9;
  negative.steps = 5;
  CHECK(same(negative));
  CHECK(graphed.counts().recorded == recorded);
  auto larger = graphed_run;
  larger.resolution = 128;
  CHECK(same(larger));
  CHECK(graphed.counts().recorded == recorded + 1);
  CHECK(same(graphed_run, 2));
  CHECK(graphed.counts().recorded == recorded + 2);
  edit.branches_at_once = 1;
  CHECK(same(graphed_run));
  edit.branches_at_once = 0;

  // LoRAs: applied, scaled, removed.
  auto lora = apply_lora(edit.unet(), LoraFile::open(fixture("nn/fixtures/lora-kohya.safetensors")).part("unet"));
  CHECK(same(graphed_run));
  CHECK_FALSE(at::equal(latents_of_edit(edit, graphed_run), first));
  lora.set_scale(0.25);
  CHECK(same(graphed_run));
  lora.set_scale(0.0);
  CHECK(same(graphed_run));
  lora.remove();
  CHECK(same(graphed_run));
  CHECK(at::equal(latents_of_edit(edit, graphed_run), first));

  // Weights in another place and form, and other weights in the same place.
  auto unet = edit.unet();
  unet.thaw();
  CHECK(same(graphed_run));
  const auto before = graphed.counts().recorded;
  {
    const at::NoGradGuard no_grad;
    for (const auto& parameter : unet.module().parameters()) parameter.mul_(0.9);
  }
  CHECK(same(graphed_run));
  CHECK(graphed.counts().recorded == before);
  unet.freeze();
  CHECK(same(graphed_run));
  unet.to(at::kCPU, at::kBFloat16);
  CHECK(same(graphed_run));
  CHECK(graphed.counts().dropped > 0);
  CHECK(graphed.reason().empty());
}

TEST_CASE("A LoRA that changes during a run, and another table of kernels, are other recordings",
          "[pipeline][graphed]") {
  const TestGraphs graphed({.recordings = 8, .eager_first = 1});
  const auto edit = tiny_graphed_editor();
  auto lora = apply_lora(edit.unet(), LoraFile::open(fixture("nn/fixtures/lora-kohya.safetensors")).part("unet"));
  auto settings = graphed_run;
  settings.steps = 12;
  settings.hooks.on_step = [&](const Step& step, const at::Tensor&) {
    if (step.index == 5) lora.set_scale(0.25);
    if (step.index == 11) lora.set_scale(1.0);
  };
  CHECK(same_when_graphed(edit, graphed, [&](const auto& one) { return latents_of_edit(one, settings); }));
  CHECK(graphed.counts().recorded == 2);
  lora.remove();

  static const Kernels table = [] {
    auto kernels = cpu_kernels();
    kernels.geglu = [](const at::Tensor& projected, const at::Tensor& bias) {
      return cpu_kernels().geglu(projected, bias).mul_(1.5);
    };
    return kernels;
  }();
  const auto same = [&] {
    return same_when_graphed(edit, graphed, [&](const auto& one) { return latents_of_edit(one, graphed_run); });
  };
  CHECK(same());
  const auto recorded = graphed.counts().recorded;
  const auto* before = register_kernels(at::kCPU, &table);
  CHECK(same());
  CHECK(graphed.counts().recorded == recorded + 1);
  register_kernels(at::kCPU, before);
  CHECK(same());
  CHECK(graphed.counts().recorded == recorded + 1);
}

namespace {

/// A UNet that counts how often it looks at all of its layers.
struct CountedFingerprints : UNet {
  explicit CountedFingerprints(const UNet& unet) : UNet(unet) {}
  [[nodiscard]] std::optional<std::uint64_t> fingerprint() const {
    ++*count;
    return UNet::fingerprint();
  }
  std::shared_ptr<std::int64_t> count = std::make_shared<std::int64_t>();
};

}  // namespace

TEST_CASE("A run looks for changes of its network once, and after changes", "[pipeline][graphed]") {
  const TestGraphs graphed;
  const CountedFingerprints unet(load<UNet>(tiny_files()));
  const auto parts = tiny_graphed_editor();
  EditPipeline edit{parts.text_encoder(), parts.codec(), unet, parts.diffusion, parts.sampler, parts.guidance};
  edit.execution = graphed;
  auto settings = graphed_run;
  settings.steps = 20;
  latents_of_edit(edit, settings);
  CHECK(*unet.count == 2);  // once more after the first evaluation, which brings weights into their final form
  *unet.count = 0;
  latents_of_edit(edit, settings);
  CHECK(*unet.count == 1);
  CHECK(graphed.counts().recorded == 1);
  settings.hooks.on_step = [](const Step& step, const at::Tensor&) {
    if (step.index == 4) note_model_change();
  };
  *unet.count = 0;
  latents_of_edit(edit, settings);
  CHECK(*unet.count == 2);
}

TEST_CASE("Guidance that changes its branches has a recording for each set", "[pipeline][graphed]") {
  const TestGraphs graphed({.eager_first = 1});
  const auto edit = tiny_graphed_editor(LimitedInterval{DualGuidance{}, 0.5, 5.0}, {.inference = false});
  const RunSettings settings{.steps = 12, .seed = 3, .resolution = 64};
  CHECK(same_when_graphed(edit, graphed, [&](const auto& one) { return latents_of_edit(one, settings); }));
  CHECK(graphed.counts().recorded == 2);
}

TEST_CASE("What cannot be recorded is evaluated at once, and says so", "[pipeline][graphed]") {
  const auto reason_of = [](auto pipeline, auto&& run) {
    const TestGraphs graphed({.eager_first = 0});
    CHECK(same_when_graphed(pipeline, graphed, run));
    CHECK(graphed.counts().recorded == 0);
    return graphed.reason();
  };
  const std::vector<std::string> pair{"a cat", "a dog"};
  CHECK(reason_of(tiny_text_to_image(), [&](const auto& generate) {
          TorchNoise noise(std::vector<std::uint64_t>{1, 1});
          return generate.run(pair, graphed_run, noise, SelfReplace{}).latents;
        }) == "the attention policy may do something else at each step");
  const EditPipeline archetypes{TextEncoderArchetype(4, 16),
                                CodecArchetype(2),
                                AnyNetwork(NetworkArchetype(6, 3)),
                                Diffusion{LogLinearSigmas{}, EpsPrediction{}},
                                EulerAncestral{},
                                DualGuidance{}};
  CHECK_THAT(reason_of(archetypes, [&](const auto& edit) { return latents_of_edit(edit, graphed_run); }),
             Contains("fingerprint"));

  const auto unet = tiny_unet(4);
  const auto text = at::ones({1, 5, unet.config().cross_attention_dim});
  const auto reason_within = [&](auto&& surroundings) {
    const TestGraphs graphed({.eager_first = 0});
    BranchNetwork network(unet, {.text = text, .null_text = text}, PlainAttention{}, graphed);
    surroundings([&] { static_cast<void>(network(at::ones({1, 4, 8, 8}), 5.0, {}, NoGuidance::branches)); });
    CHECK(graphed.counts().recorded == 0);
    return graphed.reason();
  };
  CHECK(reason_within([](auto&& evaluate) { evaluate(); }) == "gradients are enabled");
  CHECK(reason_within([](auto&& evaluate) {
          const at::NoGradGuard no_grad;
          at::autocast::set_autocast_enabled(at::kCPU, true);
          evaluate();
          at::autocast::clear_cache();
          at::autocast::set_autocast_enabled(at::kCPU, false);
        }) == "autocast is on");
  CHECK_THAT(reason_within([&](auto&& evaluate) {
               const at::NoGradGuard no_grad;
               CHECK(unet.first_non_finite(evaluate).empty());
             }),
             Contains("fingerprint"));
}

TEST_CASE("The step that gives NaN is named when it was replayed", "[pipeline][graphed]") {
  const TestGraphs graphed;
  const auto unet = tiny_unet(4);
  const at::NoGradGuard no_grad;
  const auto text = at::ones({1, 5, unet.config().cross_attention_dim});
  BranchNetwork network(unet, {.text = text, .null_text = text}, PlainAttention{}, graphed);
  network.check_every(4);
  const auto evaluate = [&](std::int64_t i, double value) {
    return network(at::full({1, 4, 8, 8}, value), 5.0, {.index = i, .count = 9}, NoGuidance::branches);
  };
  for (std::int64_t i = 0; i < 6; ++i) static_cast<void>(evaluate(i, 1.0));
  CHECK(graphed.counts().replayed == 4);
  const auto finite = evaluate(6, 0.5).clone();
  const auto run = [&] {
    // Step 8 gives NaN; step 9 writes other values over the recording's tensors before they are looked at.
    static_cast<void>(evaluate(7, std::nan("")));
    static_cast<void>(evaluate(8, 1.0));
    network.finish();
  };
  CHECK_THROWS_WITH(run(), Contains("step 8 of 9: expected finite values") && Contains("first in unet.conv_in"));
}

TEST_CASE("DeepCache of interval 1 is exact, and errs more the longer the interval", "[pipeline][deep_cache]") {
  auto edit = tiny_graphed_editor();
  const RunSettings settings{.steps = 20, .seed = 3, .resolution = 64};
  const auto exact = latents_of_edit(edit, settings);
  EditPipeline cached{edit.text_encoder(), edit.codec(), DeepCache(edit.unet(), {.interval = 1}),
                      edit.diffusion,      edit.sampler, edit.guidance};
  CHECK(at::equal(latents_of_edit(cached, settings), exact));
  const auto error_of = [&](const DeepCacheOptions& options) {
    cached.set_unet(DeepCache(edit.unet(), options));
    const auto found = latents_of_edit(cached, settings);
    return (found - exact).square().mean().sqrt().item<double>() / exact.std().item<double>();
  };
  const auto two = error_of({.interval = 2}), three = error_of({.interval = 3}), ten = error_of({.interval = 10});
  INFO(two << ' ' << three << ' ' << ten);
  CHECK(two > 0.0);
  CHECK(two < ten);
  CHECK(ten < 0.5);
  // The more is evaluated, the smaller the error.
  const auto most = edit.unet().skip_connections() - 1;
  const auto deep = error_of({.interval = 3, .shallow = most});
  INFO(deep);
  CHECK(deep < three);
}

TEST_CASE("DeepCache works in an editor whose parts are chosen at run time, and under recordings",
          "[pipeline][deep_cache][graphed]") {
  const auto files = tiny_files();
  const auto unet = load<UNet>(files, {.inference = false});
  EditPipeline edit{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), AnyNetwork(unet),
                    diffusion_of(files),          EulerAncestral{},           DualGuidance{}};
  const EditPipeline direct{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), DeepCache(unet, {.interval = 3}),
                            diffusion_of(files),          EulerAncestral{},           DualGuidance{}};
  edit.set_unet(DeepCache(edit.unet(), {.interval = 3}));
  const RunSettings settings{.steps = 12, .seed = 3, .resolution = 64};
  CHECK(at::equal(latents_of_edit(edit, settings), latents_of_edit(direct, settings)));
  const TestGraphs graphed({.eager_first = 1});
  const auto same = [&](const auto& pipeline) {
    return same_when_graphed(pipeline, graphed, [&](const auto& one) { return latents_of_edit(one, settings); });
  };
  CHECK(same(edit));
  CHECK(graphed.counts().recorded == 2);  // whole evaluations and shallow ones
  CHECK(graphed.reason().empty());
  edit.branches_at_once = 1;  // each branch has features of its own
  CHECK(same(edit));
  CHECK_THROWS_WITH(edit.set_unet(tiny_unet(4)), Contains("set_unet: expected a network with 8 input channels"));
  edit.set_unet(DeepCache(AnyNetwork(NetworkArchetype(8, 4))));
  CHECK_THROWS_WITH(latents_of_edit(edit, settings), Contains("expected a network with skip connections"));
}
