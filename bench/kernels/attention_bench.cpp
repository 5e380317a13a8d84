// Softmax attention in fp32: table 0 is LibTorch's, 1 the library's. Shapes of SD1.5 at 512 px with three branches, and
// of its autoencoder (one head of 512). Beside it a large matrix product, the most that the processor can be expected
// to do.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>

#include <array>
#include <cstdint>

#include "ip2p/kernels/for_device.hpp"
#include "support/settings.hpp"

namespace {

void report_flops(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void attention(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto batch = state.range(1), heads = state.range(2), queries = state.range(3), keys = state.range(4),
             depth = state.range(5);
  const auto split = [&](const at::Tensor& x) { return x.unflatten(-1, {heads, depth}).transpose(1, 2); };
  const auto kv = at::randn({batch, keys, 2 * heads * depth}).chunk(2, -1);
  const auto q = split(at::randn({batch, queries, heads * depth})), k = split(kv[0]), v = split(kv[1]);
  const auto& table = state.range(0) == 0 ? ip2p::libtorch_kernels() : ip2p::cpu_kernels();
  for (auto _ : state) benchmark::DoNotOptimize(table.attention(q, k, v, false));
  report_flops(state, 4.0 * static_cast<double>(batch * heads * queries) * static_cast<double>(keys * depth));
  state.SetLabel(state.range(0) == 0 ? "libtorch" : "blocks");
}

void matrix_product(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto side = state.range(0);
  const auto a = at::randn({side, side}), b = at::randn({side, side});
  for (auto _ : state) benchmark::DoNotOptimize(at::mm(a, b));
  report_flops(state, 2.0 * static_cast<double>(side * side) * static_cast<double>(side));
}

void attention_shapes(benchmark::internal::Benchmark* all) {
  for (const auto& [batch, heads, queries, keys, depth] : {std::array<std::int64_t, 5>{3, 8, 4096, 4096, 40},
                                                           {3, 8, 1024, 1024, 80},
                                                           {3, 8, 256, 256, 160},
                                                           {3, 8, 64, 64, 160},
                                                           {3, 8, 4096, 77, 40},
                                                           {3, 8, 1024, 77, 80},
                                                           {3, 8, 256, 77, 160},
                                                           {3, 8, 64, 77, 160},
                                                           {1, 1, 4096, 4096, 512}}) {
    for (const std::int64_t table : {0, 1}) all->Args({table, batch, heads, queries, keys, depth});
  }
}

}  // namespace

BENCHMARK(attention)
    ->Name("kernels/attention")
    ->ArgNames({"table", "batch", "heads", "queries", "keys", "depth"})
    ->Apply(attention_shapes)
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();
BENCHMARK(matrix_product)
    ->Name("kernels/matrix_product")
    ->ArgName("side")
    ->Arg(2048)
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();
