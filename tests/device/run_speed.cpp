// How fast runs are: edits at SD1.5's size, pair generation, the small editor of the repository.

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "device/check.hpp"
#include "device/models.hpp"
#include "device/sd15.hpp"
#include "ip2p/core/cudnn_benchmark.hpp"
#include "ip2p/core/device.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/nn/fp8.hpp"
#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/pipeline/open_model.hpp"
#include "ip2p/pipeline/pair_generator.hpp"
#include "ip2p/train/export.hpp"
#include "ip2p/unet/deep_cache.hpp"

#ifdef IP2P_HAS_CUDA
#include "ip2p/execution/cuda_graph.hpp"
#include "ip2p/execution/eager.hpp"
#include "ip2p/execution/graphed.hpp"
#endif

namespace ip2p::device_check {

namespace {

/// One way of running the same edit.
struct Variant {
  std::string name;
  std::function<void(Editor&)> begin, end;
  bool briefly = false;  ///< One picture at once, and no list of operations: the time of all variants is limited.
  /// Checks what was done, after the runs.
  std::function<void(Report&)> verify = [](Report&) {};
};

/// All ways, the exact ones first.
std::vector<Variant> variants(at::Device device, const UNet& unet) {
  // Our kernels are registered when the program starts; without them LibTorch's operators do the work.
  const auto* table = registered_kernels(device.type());
  const auto plain = [=](Editor&) { register_kernels(device.type(), nullptr); };
  const auto fused = [=](Editor&) { register_kernels(device.type(), table); };
  const auto nothing = [](Editor&) {};
  const auto cached = [](Editor& edit) { edit.set_unet(DeepCache(edit.unet(), {.interval = 3})); };
  const auto whole = [unet](Editor& edit) { edit.set_unet(unet); };
  std::vector<Variant> all;
  all.push_back({"eager", plain, fused});
  if (table != nullptr) all.push_back({"our kernels", nothing, nothing});
#ifdef IP2P_HAS_CUDA
  if (device.is_cuda()) {
    const auto eager = [](Editor& edit) { edit.execution = Eager{}; };
    const auto graphed = [&](const std::string& more, const std::function<void(Editor&)>& begin,
                             const std::function<void(Editor&)>& end, bool briefly) {
      const auto name = "our kernels, one graph a step" + more;
      const auto graphs = std::make_shared<Graphed<CudaGraph>>();
      all.push_back({name,
                     [=](Editor& edit) {
                       begin(edit);
                       edit.execution = *graphs;
                     },
                     [=](Editor& edit) {
                       eager(edit);
                       end(edit);
                     },
                     briefly,
                     [=](Report& report) {
                       const auto counts = graphs->counts();
                       // Its times would be those of eager runs otherwise.
                       report.expect(name + ": steps are replayed", counts.replayed > counts.eager,
                                     fmt::format("{} recorded, {} replayed, {} at once; {}", counts.recorded,
                                                 counts.replayed, counts.eager, graphs->reason()));
                     }});
    };
    graphed("", nothing, nothing, false);
    graphed(", DeepCache of interval 3", cached, whole, true);
    graphed(
        ", linear layers in 8 bits", [unet](Editor&) { use_fp8(unet); }, [unet](Editor&) { drop_fp8(unet); }, true);
    return all;
  }
#endif
  all.push_back({"DeepCache of interval 3", cached, whole, true});
  return all;
}

const std::string instruction = "make it a snowy evening";

/// Inputs and results for another program that runs the same model: one evaluation, and a deterministic run of 10
/// steps.
void write_expected(const std::filesystem::path& path, const Editor& edit, const UNet& unet, std::int64_t side,
                    const Place& place) {
  const auto shape = std::vector<std::int64_t>{1, 4, side / 8, side / 8};
  const std::vector<std::string> prompts{instruction};
  auto conditioning = edit.encode_text(prompts);
  conditioning.image = CounterNoise(60).normal(shape, 0).to(place.device);
  const auto sigmas = edit.diffusion.schedule.sigmas(10);
  const auto start = CounterNoise(61).normal(shape, 0).mul(sigmas.front());
  CounterNoise unused(0);
  const auto latents = edit.denoise(start, sigmas, conditioning, unused, {}, PlainAttention{}, edit.guidance, Euler{});
  std::vector<double> times;
  for (std::size_t i = 0; i + 1 < sigmas.size(); ++i) times.push_back(edit.diffusion.schedule.sigma_to_t(sigmas[i]));
  const auto x = CounterNoise(62).normal({3, 8, side / 8, side / 8}, 0);
  const auto context = at::cat({conditioning.text, conditioning.null_text, conditioning.null_text});
  const auto out = unet(x, at::tensor({437.0F}), context);
  const auto own = [](const at::Tensor& tensor) { return tensor.to(at::kCPU, at::kFloat).contiguous(); };
  write_safetensors(path, {{"x", own(x)},
                           {"context", own(context)},
                           {"unet", own(out)},
                           {"text", own(conditioning.text)},
                           {"null_text", own(conditioning.null_text)},
                           {"image", own(conditioning.image)},
                           {"start", own(start)},
                           {"sigmas", at::tensor(at::ArrayRef<double>(sigmas))},
                           {"timesteps", at::tensor(at::ArrayRef<double>(times))},
                           {"latents", own(latents)}});
}

void edit_speed(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const BenchmarkShapes shapes(settings);
  const Place place{.device = settings.device,
                    .dtype = settings.device.is_cpu() ? at::kFloat : best_dtype(settings.device)};
  const auto unet = drawn<UNet>(shapes.unet(8), place, 70);
  const auto codec = drawn<KlAutoencoder>(shapes.codec, place, 71);
  const auto text = drawn<ClipTextModel>(shapes.text, place, 72);
  if (!settings.weights.empty()) {
    const std::string what = "writing the model for other programs";
    report.attempt(what, [&] {
      report.measure(what,
                     seconds_of(settings.device,
                                [&] {
                                  save_model(settings.weights, unet, codec, text,
                                             {.dtype = place.dtype, .tokenizer = settings.models / "clip-tokenizer"});
                                }),
                     "s");
    });
  }
  for (auto model : {unet}) model.freeze();
  for (auto model : {codec}) model.freeze();
  for (auto model : {text}) model.freeze();
  Editor edit{AnyTextEncoder(ClipTextEncoder(published_tokenizer(settings), text)),
              AnyCodec(codec),
              AnyNetwork(unet),
              diffusion_of(SchedulerConfig{}),
              AnySampler(EulerAncestral{}),
              DualGuidance{}};
  report.note("what",
              fmt::format("{} px, {} steps, three branches, {}", shapes.side, shapes.steps, dtype_name(place.dtype)));
  const auto photo = patterned(shapes.side, shapes.side);
  const auto options = [&](std::int64_t steps) {
    return RunSettings{.steps = steps, .seed = 1, .resolution = shapes.side};
  };
  // First of all: what follows may run out of time, and others wait for these.
  if (!settings.weights.empty()) {
    report.attempt("results for other programs",
                   [&] { write_expected(settings.weights / "expected.safetensors", edit, unet, shapes.side, place); });
  }
  at::Tensor exact;
  const auto ways = variants(settings.device, unet);
  for (const auto& variant : ways) {
    report.attempt(variant.name, [&] {
      variant.begin(edit);
      const auto found = edit.run({&photo, 1}, {&instruction, 1}, options(shapes.steps)).latents;
      if (exact.defined()) {
        report.measure(variant.name + ": difference of the edit from the first, RMS", relative_error(found, exact), "");
      } else {
        exact = found;
      }
      for (const std::size_t batch : {std::size_t{1}, std::size_t{settings.small ? 2U : 8U}}) {
        if (variant.briefly && batch > 1) continue;
        const std::vector<std::string> prompts(batch, instruction);
        const auto whole = [&](std::int64_t steps) { return edit.run({&photo, 1}, prompts, options(steps)); };
        (void)whole(3);
        reset_peak(settings.device);
        std::vector<double> times;
        for (int i = 0; i < (batch == 1 && !settings.small ? 3 : 1); ++i) {
          times.push_back(seconds_of(settings.device, [&] { (void)whole(shapes.steps); }));
        }
        std::ranges::sort(times);
        const double seconds = times[times.size() / 2];
        const auto name = fmt::format("{}, batch {}", variant.name, batch);
        report.measure(name + ": whole edit", seconds, "s");
        report.measure(name + ": rate", static_cast<double>(batch) / seconds, "edits/s");
        report.measure(name + ": peak", peak_gib(settings.device), "GiB");
        // The share of the steps alone: the difference of two runs' lengths.
        const double few = seconds_of(settings.device, [&] { (void)whole((shapes.steps + 3) / 4); });
        report.measure(name + ": a step",
                       1e3 * (seconds - few) / static_cast<double>(shapes.steps - (shapes.steps + 3) / 4), "ms");
      }
      variant.verify(report);
    });
    variant.end(edit);
  }
  const std::string limited = "guidance within noise levels 0.28 to 5.42";
  report.attempt(limited, [&] {
    const EditPipeline within{edit.text_encoder(), edit.codec(), edit.unet(),
                              edit.diffusion,      edit.sampler, LimitedInterval{edit.guidance, 0.28, 5.42}};
    const auto run = [&] { return within.run({&photo, 1}, {&instruction, 1}, options(shapes.steps)).latents; };
    const auto found = run();
    report.measure(limited + ": difference of the edit from the first, RMS", relative_error(found, exact), "");
    report.measure(limited + ", batch 1: whole edit", seconds_of(settings.device, [&] { (void)run(); }), "s");
  });
  if (settings.device.is_cuda()) {
    // cuDNN keeps its choices for each thread, so one that has measured none is needed.
    const std::string rules = "our kernels, cuDNN chooses by its rules";
    std::thread([&] {
      const at::NoGradGuard no_grad_here;
      report.attempt(rules, [&] {
        allow_convolution_benchmark(false);
        const auto run = [&] { (void)edit.run({&photo, 1}, {&instruction, 1}, options(shapes.steps)); };
        run();
        report.measure(rules + ", batch 1: whole edit", seconds_of(settings.device, run), "s");
      });
      allow_convolution_benchmark(true);
    }).join();
  }
  // Last, because what observes operations slows down what follows.
  for (const auto& variant : ways) {
    if (variant.briefly) continue;
    report.attempt(variant.name + ", operations", [&] {
      variant.begin(edit);
      const auto run = [&] { (void)edit.run({&photo, 1}, {&instruction, 1}, options(2)); };
      run();
      report_operations(report, variant.name, settings.device, run);
    });
    variant.end(edit);
  }
}

void pair_speed(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const BenchmarkShapes shapes(settings);
  const Place place{.device = settings.device,
                    .dtype = settings.device.is_cpu() ? at::kFloat : best_dtype(settings.device)};
  auto unet = drawn<UNet>(shapes.unet(4), place, 73);
  auto codec = drawn<KlAutoencoder>(shapes.codec, place, 71);
  auto text = drawn<ClipTextModel>(shapes.text, place, 72);
  unet.freeze();
  codec.freeze();
  text.freeze();
  const TextToImage pipeline{AnyTextEncoder(ClipTextEncoder(published_tokenizer(settings), text)),
                             AnyCodec(codec),
                             AnyNetwork(unet),
                             diffusion_of(SchedulerConfig{}),
                             AnySampler(EulerAncestral{}),
                             TextGuidance{}};
  const auto pairs = [&](std::int64_t steps, std::int64_t count) {
    const PairGenerator generator(pipeline, {.steps = steps, .size = Size{shapes.side, shapes.side}});
    return generator("a photograph of a house", "a photograph of a house in the snow", pair_samples(1, 2, 0, count));
  };
  const std::int64_t count = settings.small ? 1 : 4;
  (void)pairs(2, count);
  reset_peak(settings.device);
  const double seconds = seconds_of(settings.device, [&] { (void)pairs(shapes.steps, count); });
  report.measure(fmt::format("{} pairs at once, {} px, {} steps", count, shapes.side, shapes.steps),
                 static_cast<double>(count) / seconds, "pairs/s");
  report.measure("peak", peak_gib(settings.device), "GiB");
}

void small_editor(const Settings& settings, Report& report) {
  const at::NoGradGuard no_grad;
  const auto folder = settings.models / "small-editor";
  const auto photo = patterned(256, 256);
  const auto edit_at = [&](const Place& place) {
    return open_editor(folder, {.device = place.device, .dtype = place.dtype});
  };
  parity(
      report, settings, "its edit, pixels",
      [&](const Place& place) {
        const auto edited = edit_at(place)(photo, instruction);
        return images_to_tensor({&edited, 1});
      },
      settings.small ? std::vector{at::kBFloat16} : every_dtype, 4.0);
  const auto edit = edit_at({.device = settings.device, .dtype = best_dtype(settings.device)});
  report.measure(
      fmt::format("whole edit at 256 px, {}", dtype_name(best_dtype(settings.device))),
      1e3 * median_seconds(settings.device, settings.small ? 1 : 10, [&] { (void)edit(photo, instruction); }), "ms");
}

}  // namespace

std::vector<Part> run_speed_steps() {
  return {{"small_editor", true, small_editor}, {"edit_speed", true, edit_speed}, {"pair_speed", true, pair_speed}};
}

}  // namespace ip2p::device_check
