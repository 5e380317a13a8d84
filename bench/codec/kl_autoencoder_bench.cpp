// The SD1.5 autoencoder, seeded random weights: resolution and dtype.

#include "ip2p/codec/kl_autoencoder.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>

#include "ip2p/nn/initialise.hpp"
#include "support/settings.hpp"

namespace {

ip2p::KlAutoencoder seeded(at::ScalarType dtype) {
  ip2p::KlAutoencoder codec{ip2p::KlAutoencoderConfig{}};
  ip2p::initialise(codec.module(), ip2p::bench::seed);
  codec.to(at::kCPU, dtype);
  codec.freeze();
  return codec;
}

void encode(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto codec = seeded(ip2p::bench::dtype_of(state.range(1)));
  const auto images = at::randn({1, 3, state.range(0), state.range(0)});
  benchmark::DoNotOptimize(codec.encode(images));
  for (auto _ : state) benchmark::DoNotOptimize(codec.encode(images));
  state.SetLabel(ip2p::bench::dtype_name(state.range(1)));
  ip2p::bench::report_peak_memory(state);
}

void decode(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto codec = seeded(ip2p::bench::dtype_of(state.range(1)));
  const auto latents = at::randn({1, 4, state.range(0) / 8, state.range(0) / 8});
  benchmark::DoNotOptimize(codec.decode(latents));
  for (auto _ : state) benchmark::DoNotOptimize(codec.decode(latents));
  state.SetLabel(ip2p::bench::dtype_name(state.range(1)));
  ip2p::bench::report_peak_memory(state);
}

}  // namespace

BENCHMARK(encode)
    ->Name("sd15/vae_encode")
    ->ArgNames({"pixels", "dtype"})
    ->ArgsProduct({{256, 512}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(decode)
    ->Name("sd15/vae_decode")
    ->ArgNames({"pixels", "dtype"})
    ->ArgsProduct({{256, 512}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
