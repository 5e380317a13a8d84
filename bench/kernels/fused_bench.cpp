// The CPU's fused operators beside LibTorch's own: table 0 is LibTorch's, 1 the library's. Shapes of SD1.5 at 512 px
// with three branches, and of its autoencoder; dtype 0 fp32, 1 bf16.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "ip2p/kernels/for_device.hpp"
#include "support/settings.hpp"

namespace {

const ip2p::Kernels& table_of(const benchmark::State& state) {
  return state.range(0) == 0 ? ip2p::libtorch_kernels() : ip2p::cpu_kernels();
}

/// GB/s if every element were read twice and written once.
void report(benchmark::State& state, const at::Tensor& x) {
  state.SetBytesProcessed(state.iterations() * 3 * x.numel() * x.element_size());
  state.SetLabel(state.range(0) == 0 ? "libtorch" : "fused");
}

void group_norm_silu(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto channels = state.range(3);
  const auto dtype = ip2p::bench::dtype_of(state.range(1));
  const auto x = at::randn({state.range(2), channels, state.range(4), state.range(4)})
                     .to(dtype)
                     .contiguous(at::MemoryFormat::ChannelsLast);
  const auto weight = at::randn({channels}).to(dtype);
  const auto add = state.range(5) != 0 ? at::randn({1, channels, 1, 1}).to(dtype) : at::Tensor();
  const auto& table = table_of(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.group_norm_silu(x, add, weight, weight, 32, 1e-5, true));
  }
  report(state, x);
}

void geglu(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto dtype = ip2p::bench::dtype_of(state.range(1));
  const auto projected = at::randn({state.range(2), 2 * state.range(3)}).to(dtype);
  const auto& table = table_of(state);
  for (auto _ : state) benchmark::DoNotOptimize(table.geglu(projected, {}));
  report(state, projected);
}

void add_layer_norm(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto dtype = ip2p::bench::dtype_of(state.range(1));
  const auto x = at::randn({state.range(2), state.range(3)}).to(dtype);
  const auto residual = at::randn({state.range(2), state.range(3)}).to(dtype);
  const auto weight = at::randn({state.range(3)}).to(dtype);
  const auto& table = table_of(state);
  for (auto _ : state) benchmark::DoNotOptimize(table.add_layer_norm(x, residual, weight, weight, 1e-5).normed);
  report(state, x);
}

void group_norm_shapes(benchmark::internal::Benchmark* all) {
  for (const std::int64_t dtype : {0, 1}) {
    for (const auto& [batch, channels, side, add] : {std::array<std::int64_t, 4>{3, 320, 64, 1},
                                                     {3, 960, 64, 0},
                                                     {3, 640, 32, 1},
                                                     {3, 1280, 16, 1},
                                                     {3, 1280, 8, 1},
                                                     {1, 128, 512, 0},
                                                     {1, 512, 64, 0}}) {
      for (const std::int64_t table : {0, 1}) all->Args({table, dtype, batch, channels, side, add});
    }
  }
}

void token_shapes(benchmark::internal::Benchmark* all, std::int64_t widening) {
  for (const std::int64_t dtype : {0, 1}) {
    for (const auto& [rows, channels] :
         {std::array<std::int64_t, 2>{12288, 320}, {3072, 640}, {768, 1280}, {192, 1280}}) {
      for (const std::int64_t table : {0, 1}) {
        // The feed-forward layer works in blocks of rows.
        const auto at_once =
            widening > 1 ? std::min<std::int64_t>(rows, (24 << 20) / 4 / (2 * widening * channels)) : rows;
        all->Args({table, dtype, at_once, widening * channels});
      }
    }
  }
}

}  // namespace

BENCHMARK(group_norm_silu)
    ->Name("kernels/group_norm_silu")
    ->ArgNames({"table", "dtype", "batch", "channels", "side", "add"})
    ->Apply(group_norm_shapes)
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();
BENCHMARK(geglu)
    ->Name("kernels/geglu")
    ->ArgNames({"table", "dtype", "rows", "hidden"})
    ->Apply([](auto* all) { token_shapes(all, 4); }) -> Unit(benchmark::kMicrosecond) -> UseRealTime();
BENCHMARK(add_layer_norm)
    ->Name("kernels/add_layer_norm")
    ->ArgNames({"table", "dtype", "rows", "channels"})
    ->Apply([](auto* all) { token_shapes(all, 1); }) -> Unit(benchmark::kMicrosecond) -> UseRealTime();
