// 3x3 convolutions of the SD1.5 UNet (three branches at 512 and 256 px) and autoencoder in fp32: a frozen layer's own
// choice of form, transforms included, and the packed direct form. The label says what was chosen. The same for
// enlargements, whose direct form is computed on the small map in four phases.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>

#include <cstdint>
#include <memory>
#include <string>

#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "support/settings.hpp"

namespace {

std::string form_of(const ip2p::Conv2d& conv, std::int64_t side) {
  if (ip2p::detail::cpu::is_winograd_weight(conv.weight)) {
    return ip2p::detail::cpu::winograd_tile(side, side) == 4 ? "Winograd F(4x4)" : "Winograd F(2x2)";
  }
  return conv.weight.is_mkldnn() ? "direct, packed" : "direct, channels-last";
}

void convolution(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto side = state.range(3);
  const auto conv = std::make_shared<ip2p::Conv2d>(state.range(1), state.range(2), 3, 1, 1);
  ip2p::initialise(*conv, ip2p::bench::seed);
  if (state.range(4) == 0) conv->set_form(ip2p::ConvolutionForm::direct);
  conv->freeze();
  const auto x = at::randn({state.range(0), state.range(1), side, side}).contiguous(at::MemoryFormat::ChannelsLast);
  benchmark::DoNotOptimize((*conv)(x));
  for (auto _ : state) benchmark::DoNotOptimize((*conv)(x));
  state.SetLabel(form_of(*conv, side));
}

void enlargement(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const auto channels = state.range(1);
  const auto side = state.range(2);
  const auto layer = std::make_shared<ip2p::Upsample>(channels);
  ip2p::initialise(*layer, ip2p::bench::seed);
  if (state.range(3) == 0) layer->conv->set_form(ip2p::ConvolutionForm::direct);
  layer->freeze();
  layer->conv->freeze();
  const auto x = at::randn({state.range(0), channels, side, side}).contiguous(at::MemoryFormat::ChannelsLast);
  benchmark::DoNotOptimize((*layer)(x, 2 * side, 2 * side));
  for (auto _ : state) benchmark::DoNotOptimize((*layer)(x, 2 * side, 2 * side));
  state.SetLabel(ip2p::detail::cpu::is_winograd_weight(layer->conv->weight) ? form_of(*layer->conv, 2 * side)
                                                                            : "direct, in phases");
}

}  // namespace

BENCHMARK(convolution)
    ->Name("sd15/conv3x3")
    ->ArgNames({"batch", "in", "out", "side", "fastest"})
    ->ArgsProduct({{3}, {320}, {320}, {64}, {0, 1}})
    ->ArgsProduct({{3}, {960}, {320}, {64}, {0, 1}})
    ->ArgsProduct({{3}, {640}, {640}, {32}, {0, 1}})
    ->ArgsProduct({{3}, {1920}, {640}, {32}, {0, 1}})
    ->ArgsProduct({{3}, {1280}, {1280}, {16, 8, 4}, {0, 1}})
    ->ArgsProduct({{3}, {2560}, {1280}, {16}, {0, 1}})
    ->ArgsProduct({{1}, {128}, {128}, {512}, {0, 1}})
    ->ArgsProduct({{1}, {256}, {256}, {256}, {0, 1}})
    ->ArgsProduct({{1}, {512}, {512}, {64}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

BENCHMARK(enlargement)
    ->Name("sd15/enlargement")
    ->ArgNames({"batch", "channels", "side", "fastest"})
    ->ArgsProduct({{3}, {1280}, {4, 8, 16}, {0, 1}})
    ->ArgsProduct({{3}, {640}, {16, 32}, {0, 1}})
    ->ArgsProduct({{1}, {512}, {64, 128}, {0, 1}})
    ->ArgsProduct({{1}, {256}, {256}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
