// One evaluation of the SD1.5 InstructPix2Pix UNet, seeded random weights: resolution, branches, dtype; whole, with
// weights in 8 bits, and the shallow part alone that DeepCache evaluates between whole ones.

#include "ip2p/unet/unet.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>

#include <cstdint>

#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/int8.hpp"
#include "ip2p/unet/deep_cache.hpp"
#include "support/settings.hpp"

namespace {

/// \param shallow skip connections of the shallow part; 0: the whole network
void evaluate(benchmark::State& state, std::int64_t shallow, bool in_8_bits = false) {
  const at::NoGradGuard no_grad;
  const auto latent = state.range(0) / 8;
  const auto branches = state.range(1);
  const auto dtype = ip2p::bench::dtype_of(state.range(2));
  ip2p::UNet unet{ip2p::UNetConfig{}};
  ip2p::initialise(unet.module(), ip2p::bench::seed);
  unet.to(at::kCPU, dtype);
  if (in_8_bits) {
    ip2p::use_int8(unet);
  } else {
    unet.freeze();
  }
  const auto times = unet.project_time(at::full({1}, 500.0));
  const auto texts = unet.project_context(at::randn({branches, 77, 768}));
  const auto x = at::randn({branches, 8, latent, latent});
  at::Tensor deep;
  const auto call = [&] {
    return shallow == 0 ? unet(x, times, texts)
                        : unet.with_deep_features(x, times, texts, ip2p::PlainAttention{}, {}, {}, shallow, deep);
  };
  benchmark::DoNotOptimize(call());  // sets the deep features
  for (auto _ : state) benchmark::DoNotOptimize(call());
  const auto* const vnni = ip2p::int8_is_faster() ? "int8, VNNI" : "int8, without VNNI";
  state.SetLabel(in_8_bits ? vnni : ip2p::bench::dtype_name(state.range(2)));
  ip2p::bench::report_peak_memory(state);
}

void step(benchmark::State& state) { evaluate(state, 0); }
void step_in_8_bits(benchmark::State& state) { evaluate(state, 0, true); }
void shallow_step(benchmark::State& state) { evaluate(state, ip2p::DeepCacheOptions{}.shallow); }

}  // namespace

BENCHMARK(step)
    ->Name("sd15/unet_step")
    ->ArgNames({"pixels", "branches", "dtype"})
    ->ArgsProduct({{256, 512}, {1, 3}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

BENCHMARK(step_in_8_bits)
    ->Name("sd15/unet_step_int8")
    ->ArgNames({"pixels", "branches", "dtype"})
    ->ArgsProduct({{256, 512}, {1, 3}, {0}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

BENCHMARK(shallow_step)
    ->Name("sd15/deep_cache_step")
    ->ArgNames({"pixels", "branches", "dtype"})
    ->ArgsProduct({{256, 512}, {1, 3}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
