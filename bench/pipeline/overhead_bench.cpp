// What a step costs besides its arithmetic. The network has the layers of Stable Diffusion 1.5 at a width of 8
// channels, and the picture has 64 pixels, so that a step takes hardly more than what the library does around the
// kernels; that part is nearly the same for a network of any width. One thread, its CPU time, and the fastest of single
// steps, which other work on the machine hardly affects.
//
//   step_us      a step of a run: sampler, guidance, conditioning, network
//   network_us   a bare call of the network with inputs of the same shapes
//   handle_us    the part of network_us that asks the network for its device and dtype
//   overhead_us  step_us - network_us + handle_us
//   start_us     what comes before the first step, once per run
//   operators    LibTorch operators of a step beyond those of the bare call; host_reads: those that wait for a value
//
// For training, of a micro-batch (a part of an update's batch, forward and backward), whose own arithmetic is too long
// for a difference to tell its overhead:
//
//   batch_us     making the batch, beside the pairs themselves
//   update_us    once per update: optimiser and moving average

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/attention/prompt_to_prompt.hpp"
#include "ip2p/attention/self_replace.hpp"
#include "ip2p/attention/word_swap.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/data/edit_pairs.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/guided.hpp"
#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/pipeline/branch_network.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "ip2p/train/diffusion_loss.hpp"
#include "ip2p/train/trainer.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/operators.hpp"
#include "support/settings.hpp"

namespace {

using namespace ip2p;

constexpr std::int64_t steps = 50;
constexpr std::int64_t side = 8;     // of the latents
constexpr std::int64_t tokens = 77;  // of the text
constexpr std::int64_t text_channels = 16;

/// Limits LibTorch to one thread while it lives.
struct OneThread {
  OneThread() { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before); }
  int before = at::get_num_threads();
};

UNet tiny_unet(std::int64_t in_channels) {
  UNetConfig config;
  config.in_channels = in_channels;
  config.block_out_channels = {8, 8, 8, 8};
  config.cross_attention_dim = text_channels;
  config.heads = {2, 2, 2, 2};
  config.norm_num_groups = 4;
  UNet unet(config);
  initialise(unet.module(), bench::seed);
  return unet;
}

/// CPU time of the calling thread in microseconds.
double cpu_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

template <class Work>
double time_us(Work&& work) {
  const auto begin = cpu_us();
  work();
  return cpu_us() - begin;
}

/// Keeps the shortest of several times.
class Fastest {
 public:
  void add(double us) { least_ = std::min(least_, us); }
  [[nodiscard]] double us() const { return least_; }

 private:
  double least_ = std::numeric_limits<double>::infinity();
};

struct Times {
  Fastest step, network, handle;

  void measure_handle(const UNet& unet) {
    handle.add(time_us([&] {
      benchmark::DoNotOptimize(unet.device());
      benchmark::DoNotOptimize(unet.dtype());
    }));
  }
  void report(benchmark::State& state) const {
    state.counters["step_us"] = step.us();
    state.counters["network_us"] = network.us();
    state.counters["handle_us"] = handle.us();
  }
};

/// The operators of `work` minus those of `bare`, per step.
template <class Work, class Bare>
void report_operators(benchmark::State& state, std::int64_t count, Work&& work, Bare&& bare) {
  const auto counted = [](auto&& run) {
    const bench::OperatorCount count;
    run();
    return std::pair(count.operators(), count.host_reads());
  };
  const auto [all, reads] = counted(work);
  const auto [network, network_reads] = counted(bare);
  state.counters["operators"] = static_cast<double>(all - network) / static_cast<double>(count);
  state.counters["host_reads"] = static_cast<double>(reads - network_reads) / static_cast<double>(count);
}

/// A run of `steps` steps and the bare calls of its network, which see `distinct` different inputs for the branches.
/// \param sees_image whether the network has the image's latents as input channels
template <class Guidance, class Attention>
void run_of(benchmark::State& state, std::int64_t batch, bool sees_image, const std::vector<std::int64_t>& input_of,
            const Guidance& guidance, const Attention& attention) {
  const OneThread one_thread;
  const at::NoGradGuard no_grad;
  at::manual_seed(bench::seed);
  auto unet = tiny_unet(sees_image ? 8 : 4);
  unet.freeze();
  const LogLinearSigmas schedule;
  const auto sigmas = schedule.sigmas(steps);
  const auto start = at::randn({batch, 4, side, side}).mul_(sigmas.front());
  const auto text = at::randn({batch, tokens, text_channels});
  Conditioning conditioning{.text = text, .null_text = at::randn({1, tokens, text_channels}).expand_as(text)};
  if (sees_image) conditioning.image = at::randn({batch, 4, side, side});

  Times times_of;
  Fastest start_of;
  const auto run = [&] {
    auto last = cpu_us();
    const auto mark = [&](const Step& step, const at::Tensor&) {
      (step.index == 0 ? start_of : times_of.step).add(cpu_us() - std::exchange(last, cpu_us()));
    };
    BranchNetwork<UNet, Attention> network(unet, conditioning, attention);
    network.prepare(schedule, sigmas);
    NetworkDenoiser denoiser(Guided(std::ref(network), guidance), schedule, EpsPrediction{});
    TorchNoise noise(bench::seed);
    benchmark::DoNotOptimize(EulerAncestral{}.sample(denoiser, start, sigmas, noise, {.on_step = mark}));
  };

  const auto branches = static_cast<std::int64_t>(input_of.size());
  const auto inputs = 1 + *std::max_element(input_of.begin(), input_of.end());
  const auto x = at::randn({inputs * batch, unet.in_channels(), side, side});
  const auto times = unet.project_time(at::tensor({500.0F}));
  const auto texts = unet.project_context(at::randn({branches * batch, tokens, text_channels}));
  std::vector<std::int64_t> rows;
  for (const auto input : input_of) {
    for (std::int64_t i = 0; i < batch; ++i) rows.push_back(input * batch + i);
  }
  const auto input_rows = inputs < branches ? at::tensor(rows, at::kLong) : at::Tensor();
  const auto bare = [&] {
    for (std::int64_t i = 0; i < steps; ++i) {
      times_of.network.add(
          time_us([&] { benchmark::DoNotOptimize(unet(x, times, texts, PlainAttention{}, Step{}, input_rows)); }));
      times_of.measure_handle(unet);
    }
  };

  run();
  bare();
  report_operators(state, steps, run, bare);
  times_of = {};
  start_of = {};
  for (auto _ : state) {
    run();
    bare();
  }
  times_of.report(state);
  state.counters["overhead_us"] = times_of.step.us() - times_of.network.us() + times_of.handle.us();
  state.counters["start_us"] = start_of.us() - times_of.step.us();
}

/// An edit: three branches, of which two share the photograph.
void edit_overhead(benchmark::State& state) { run_of(state, 1, true, {0, 0, 1}, DualGuidance{}, PlainAttention{}); }

/// The data engine: two pairs whose pictures share a layout for different parts of the run.
void pairs(benchmark::State& state) {
  run_of(state, 4, false, {0, 0}, TextGuidance{}, SelfReplace{.shares = {0.3, 0.8}});
}

/// Prompt-to-Prompt: a prompt and one with another word, which keeps the first one's maps for most of the run.
void word_swap(benchmark::State& state) {
  run_of(state, 2, false, {0, 1}, TextGuidance{}, PromptToPrompt{WordSwap{at::eye(tokens).unsqueeze(0)}});
}

/// Precomputed latents.
struct Latents {
  std::int64_t size() const { return count; }
  EditPair get(std::int64_t, SampleRandom&) const { return {mean, logvar, condition, "make it snowy"}; }

  std::int64_t count;
  at::Tensor mean = at::randn({4, side, side});
  at::Tensor logvar = at::randn({4, side, side}).sub(4);
  at::Tensor condition = at::randn({4, side, side});
};

constexpr std::int64_t micro_batches = 8;
constexpr std::int64_t micro_batch = 4;

/// An update in micro-batches, and the forward and backward pass alone over a batch that exists already. The argument
/// is the number of pairs in the set; 313,010 is the size of the released data set.
void training(benchmark::State& state) {
  const OneThread one_thread;
  at::manual_seed(bench::seed);
  const auto unet = tiny_unet(8);
  const auto context = at::randn({1, tokens, text_channels});
  const Latents source{state.range(0)};
  const auto encode = [&](std::span<const std::string> words) {
    return context.expand({static_cast<std::int64_t>(words.size()), -1, -1});
  };
  const DiffusionLossOptions options{.batch = micro_batch * micro_batches};
  const DiffusionLoss loss(unet, encode, source, UniformTimesteps{}, EpsPrediction{}, options);
  Parameters parameters;
  parameters.add(unet.module(), "unet");

  const auto batch = loss.batch(0, 0, micro_batches);
  Times times;
  Fastest batches, updates;
  double last = 0.0;
  const auto timed = [&](std::int64_t step, std::int64_t part, std::int64_t parts) {
    const auto now = cpu_us();
    if (part > 0) times.step.add(now - last);
    last = now;
    return loss(step, part, parts);
  };
  Trainer trainer(parameters, timed, ConstantRate{}, {.accumulate = micro_batches});
  trainer.advance();
  times = {};
  for (auto _ : state) {
    trainer.advance();
    const auto last_part = cpu_us() - last;
    for (std::int64_t i = 0; i < micro_batches; ++i) {
      times.network.add(time_us([&] { loss.loss(batch).backward(); }));
      times.measure_handle(unet);
      batches.add(time_us([&] { benchmark::DoNotOptimize(loss.batch(1, i, micro_batches)); }));
    }
    updates.add(last_part);
  }
  times.report(state);
  state.counters["batch_us"] = batches.us();
  state.counters["update_us"] = updates.us() - times.step.us();
}

}  // namespace

BENCHMARK(edit_overhead)->Name("overhead/edit")->Iterations(10)->Unit(benchmark::kMillisecond);
BENCHMARK(pairs)->Name("overhead/pairs")->Iterations(10)->Unit(benchmark::kMillisecond);
BENCHMARK(word_swap)->Name("overhead/word_swap")->Iterations(10)->Unit(benchmark::kMillisecond);
BENCHMARK(training)
    ->Name("overhead/micro_batch")
    ->ArgName("pairs")
    ->Arg(64)
    ->Arg(313'010)
    ->Iterations(10)
    ->Unit(benchmark::kMillisecond);
