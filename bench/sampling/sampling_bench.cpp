// What the loop around the network costs: 100 steps of a denoiser that does nothing, at 512 pixels.

#include <ATen/ops/zeros_like.h>

#include "ip2p/core/random.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "support/settings.hpp"

namespace {

template <class Sampler>
void loop(benchmark::State& state) {
  const auto sigmas = ip2p::LogLinearSigmas{}.sigmas(100);
  const auto start = at::randn({1, 4, 64, 64}).mul(sigmas.front());
  const auto zero = [](const at::Tensor& x, const ip2p::Step&) { return at::zeros_like(x); };
  for (auto _ : state) {
    ip2p::CounterNoise noise(ip2p::bench::seed);
    benchmark::DoNotOptimize(Sampler{}.sample(zero, start, sigmas, noise));
  }
}

}  // namespace

BENCHMARK(loop<ip2p::Euler>)->Name("latent64/euler_100_steps")->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(loop<ip2p::EulerAncestral>)
    ->Name("latent64/euler_ancestral_100_steps")
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
