// GPT-2 of the smallest published size, seeded random weights: a prompt of 64 tokens read at once.

#include "ip2p/language/gpt2.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include "ip2p/nn/initialise.hpp"
#include "support/settings.hpp"

namespace {

void read_prompt(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  ip2p::Gpt2 model{ip2p::Gpt2Config{}};
  ip2p::initialise(model.module(), ip2p::bench::seed);
  model.freeze();
  const auto ids = at::full({state.range(0), 64}, 320, at::kLong);
  benchmark::DoNotOptimize(model.hidden(ids));
  for (auto _ : state) benchmark::DoNotOptimize(model.hidden(ids));
  state.SetItemsProcessed(state.iterations() * state.range(0) * 64);
}

}  // namespace

BENCHMARK(read_prompt)
    ->Name("gpt2/read_prompt")
    ->ArgName("texts")
    ->Arg(1)
    ->Arg(16)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
