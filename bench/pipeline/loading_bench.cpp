// What comes before the second step: opening and loading every part of a model, bringing its weights into form
// (`prepare`), and the first step, beside the second. IP2P_BENCH_MODEL names the folder, whose files lie in the page
// cache if they were read before.
//
//   open_s      headers and configurations
//   load_s      text encoder, autoencoder and UNet, without their preparation
//   prepare_s   the UNet's and the autoencoder's preparation; 0 where it is left to the first call
//   first_s     the first UNet step
//   second_s    the second
//   excess_s    first_s - second_s
//   to_first_s  all of the above but the second step

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>

#include <chrono>
#include <cstdint>
#include <optional>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/nn/prepare.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/model.hpp"
#include "support/settings.hpp"

namespace {

using namespace ip2p;

/// Seconds that `work` takes.
template <class Work>
double seconds(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void loading(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  for (auto _ : state) {
    bench::with_model(state, [&](const ModelFiles& found) {
      std::optional<ModelFiles> files;
      std::optional<ClipTextEncoder> text;
      std::optional<KlAutoencoder> codec;
      std::optional<UNet> unet;
      const LoadOptions options{.prepare = false};
      const auto open = seconds([&] { files = ModelFiles::open(found.path()); });
      const auto load = seconds([&] {
        text = ip2p::load<ClipTextEncoder>(*files, options);
        codec = ip2p::load<KlAutoencoder>(*files, options);
        unet = ip2p::load<UNet>(*files, options);
      });
      const auto prepared = state.range(2) == 0 ? 0.0 : seconds([&] {
        prepare(codec->module());
        prepare(unet->module());
      });
      const auto branches = state.range(1);
      const auto x = at::randn({branches, unet->config().in_channels, state.range(0) / 8, state.range(0) / 8});
      const auto times = unet->project_time(at::full({1}, 500.0));
      const auto texts = unet->project_context(at::randn({branches, 77, unet->config().cross_attention_dim}));
      const auto step = [&] { benchmark::DoNotOptimize((*unet)(x, times, texts)); };
      const auto first = seconds(step);
      const auto second = seconds(step);
      state.counters["open_s"] = open;
      state.counters["load_s"] = load;
      state.counters["prepare_s"] = prepared;
      state.counters["first_s"] = first;
      state.counters["second_s"] = second;
      state.counters["excess_s"] = first - second;
      state.counters["to_first_s"] = open + load + prepared + first;
    });
  }
  bench::report_peak_memory(state);
}

}  // namespace

BENCHMARK(loading)
    ->Name("model/loading")
    ->ArgNames({"pixels", "branches", "prepare"})
    ->ArgsProduct({{256, 512}, {1, 3}, {0, 1}})
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
