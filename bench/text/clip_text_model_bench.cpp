// CLIP ViT-L/14's text tower, seeded random weights: prompts and dtype.

#include "ip2p/text/clip_text_model.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include "ip2p/nn/initialise.hpp"
#include "support/settings.hpp"

namespace {

void encode_prompts(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  ip2p::ClipTextModel model{ip2p::ClipTextConfig{}};
  ip2p::initialise(model.module(), ip2p::bench::seed);
  model.to(at::kCPU, ip2p::bench::dtype_of(state.range(1)));
  model.freeze();
  const auto ids = at::full({state.range(0), 77}, 320, at::kLong);
  benchmark::DoNotOptimize(model(ids));
  for (auto _ : state) benchmark::DoNotOptimize(model(ids));
  state.SetLabel(ip2p::bench::dtype_name(state.range(1)));
}

}  // namespace

BENCHMARK(encode_prompts)
    ->Name("sd15/text_encode")
    ->ArgNames({"prompts", "dtype"})
    ->ArgsProduct({{2}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
