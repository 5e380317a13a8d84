// What guidance adds to a step at 512 pixels: combining three branches, without the network.

#include "ip2p/guidance/dual_guidance.hpp"

#include <ATen/ops/randn.h>

#include "ip2p/core/step.hpp"
#include "ip2p/guidance/adaptive_projected_guidance.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "support/settings.hpp"

namespace {

template <class Guidance>
void combine(benchmark::State& state) {
  const Guidance guidance{};
  const auto stacked = at::randn({3, 4, 64, 64});
  const auto x = at::randn({1, 4, 64, 64});
  const ip2p::Step step{.index = 10, .count = 100, .sigma = 5.0, .sigma_next = 4.8};
  if constexpr (ip2p::StatefulGuidancePolicy<Guidance>) {
    auto run = guidance.start();
    for (auto _ : state) benchmark::DoNotOptimize(guidance.combine(stacked, step, x, run));
  } else {
    for (auto _ : state) benchmark::DoNotOptimize(guidance.combine(stacked, step));
  }
}

}  // namespace

BENCHMARK(combine<ip2p::DualGuidance>)->Name("latent64/dual_guidance")->Unit(benchmark::kMicrosecond);
BENCHMARK(combine<ip2p::Rescaled<ip2p::DualGuidance>>)->Name("latent64/rescaled")->Unit(benchmark::kMicrosecond);
BENCHMARK(combine<ip2p::AdaptiveProjectedGuidance<ip2p::DualGuidance>>)
    ->Name("latent64/adaptive_projected_guidance")
    ->Unit(benchmark::kMicrosecond);
