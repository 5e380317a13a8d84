// The parts and the whole edit with the weights of a model folder, loaded in the dtype under test, so that peak
// memory matches real use. IP2P_BENCH_MODEL names the folder; tests/parity/full_size.py --make-only makes one of
// SD1.5's size with random weights. bench/compare_peers.py runs these beside the same parts of other programs.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randn_like.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/pipeline/branch_network.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/model.hpp"
#include "support/settings.hpp"

namespace {

using namespace ip2p;

/// Steps of the whole edit.
constexpr std::int64_t edit_steps = 10;

/// Runs `measure(files, options)` with the benchmarks' model in the dtype of `argument`.
template <class Measure>
void with_model(benchmark::State& state, std::int64_t argument, Measure&& measure) {
  bench::with_model(state, [&](const ModelFiles& files) {
    const at::NoGradGuard no_grad;
    measure(files, LoadOptions{.dtype = bench::dtype_of(argument)});
    state.SetLabel(bench::dtype_name(argument));
    bench::report_peak_memory(state);
  });
}

void text_encode(benchmark::State& state) {
  with_model(state, state.range(1), [&](const ModelFiles& files, const LoadOptions& options) {
    const auto encoder = load<ClipTextEncoder>(files, options);
    const std::vector<std::string> prompts(static_cast<std::size_t>(state.range(0)), "make it a snowy evening");
    benchmark::DoNotOptimize(encoder.encode(prompts));
    for (auto _ : state) benchmark::DoNotOptimize(encoder.encode(prompts));
  });
}

void vae_encode(benchmark::State& state) {
  with_model(state, state.range(1), [&](const ModelFiles& files, const LoadOptions& options) {
    const auto codec = load<KlAutoencoder>(files, options);
    const auto images = at::randn({1, 3, state.range(0), state.range(0)});
    benchmark::DoNotOptimize(codec.encode(images));
    for (auto _ : state) benchmark::DoNotOptimize(codec.encode(images));
  });
}

void vae_decode(benchmark::State& state) {
  with_model(state, state.range(1), [&](const ModelFiles& files, const LoadOptions& options) {
    const auto codec = load<KlAutoencoder>(files, options);
    const auto latents = at::randn({1, 4, state.range(0) / 8, state.range(0) / 8});
    benchmark::DoNotOptimize(codec.decode(latents));
    for (auto _ : state) benchmark::DoNotOptimize(codec.decode(latents));
  });
}

void unet_step(benchmark::State& state) {
  with_model(state, state.range(2), [&](const ModelFiles& files, const LoadOptions& options) {
    const auto unet = load<UNet>(files, options);
    const auto latents = at::randn({1, unet.out_channels(), state.range(0) / 8, state.range(0) / 8});
    const auto text = at::randn({1, 77, unet.config().cross_attention_dim});
    // As in a run: what depends only on the timestep or only on the text is computed once, and the two branches with
    // the same input share what comes before the first text.
    BranchNetwork network(unet, {text, at::randn_like(text), at::randn_like(latents)});
    const std::span<const Branch> branches(DualGuidance::branches.data(), static_cast<std::size_t>(state.range(1)));
    const auto step = [&] { return network(latents, 500.0, {.sigma = 1.0}, branches); };
    benchmark::DoNotOptimize(step());
    for (auto _ : state) benchmark::DoNotOptimize(step());
  });
}

void edit(benchmark::State& state) {
  with_model(state, state.range(1), [&](const ModelFiles& files, const LoadOptions& options) {
    const auto begin = std::chrono::steady_clock::now();
    const EditPipeline pipeline(load<ClipTextEncoder>(files, options), load<KlAutoencoder>(files, options),
                                load<UNet>(files, options), diffusion_of(files, Numerics::diffusers));
    const std::chrono::duration<double> loading = std::chrono::steady_clock::now() - begin;
    const auto side = state.range(0);
    const auto photo = from_tensor(at::randn({3, side, side}).mul_(40).add_(128).clamp_(0, 255).to(at::kByte));
    const RunSettings settings{.steps = edit_steps, .numerics = Numerics::diffusers};
    for (auto _ : state) benchmark::DoNotOptimize(pipeline(photo, "make it a snowy evening", settings));
    state.counters["load_s"] = loading.count();
  });
}

}  // namespace

BENCHMARK(text_encode)
    ->Name("model/text_encode")
    ->ArgNames({"prompts", "dtype"})
    ->ArgsProduct({{2}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(vae_encode)
    ->Name("model/vae_encode")
    ->ArgNames({"pixels", "dtype"})
    ->ArgsProduct({{256, 512}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(vae_decode)
    ->Name("model/vae_decode")
    ->ArgNames({"pixels", "dtype"})
    ->ArgsProduct({{256, 512}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(unet_step)
    ->Name("model/unet_step")
    ->ArgNames({"pixels", "branches", "dtype"})
    ->ArgsProduct({{256, 512}, {1, 3}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(edit)
    ->Name("model/edit_10_steps")
    ->ArgNames({"pixels", "dtype"})
    ->ArgsProduct({{256, 512}, {0, 1}})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
