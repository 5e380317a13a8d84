// Linear layers of the SD1.5 UNet at 512 px, one branch (rows x in x out): fp32 and 8 bits. The label says whether the
// instructions made for 8 bits (VNNI) are used; without them 8 bits save memory, not time.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>

#include <memory>

#include "ip2p/kernels/cpu/int8.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/int8_weight.hpp"
#include "ip2p/nn/layers.hpp"
#include "support/settings.hpp"

namespace {

void linear_in_8_bits(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  ip2p::Linear layer(state.range(1), state.range(2));
  ip2p::initialise(layer, ip2p::bench::seed);
  if (state.range(3) != 0) {
    layer.int8 = std::make_shared<const ip2p::detail::Int8Weight>(ip2p::detail::int8_linear_weight(layer.weight));
    state.SetLabel(ip2p::int8_is_faster() ? "VNNI" : "without VNNI");
  }
  const auto x = at::randn({state.range(0), state.range(1)});
  benchmark::DoNotOptimize(layer(x));
  for (auto _ : state) benchmark::DoNotOptimize(layer(x));
}

}  // namespace

BENCHMARK(linear_in_8_bits)
    ->Name("sd15/linear_int8")
    ->ArgNames({"rows", "in", "out", "int8"})
    ->ArgsProduct({{4096}, {320}, {320, 2560}, {0, 1}})
    ->ArgsProduct({{1024}, {640}, {640, 5120}, {0, 1}})
    ->ArgsProduct({{256}, {1280}, {1280, 10240}, {0, 1}})
    ->ArgsProduct({{64}, {1280}, {1280}, {0, 1}})
    ->ArgsProduct({{77}, {768}, {320}, {0, 1}})
    ->Unit(benchmark::kMillisecond);
