// What the loop around the network costs: 100 steps at 512 pixels with a denoiser that does nothing, for each sampler.

#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>

#include <string>

#include "ip2p/core/random.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "support/settings.hpp"

namespace {

void loop(benchmark::State& state, std::string_view name) {
  const auto sampler = ip2p::AnySampler::named(name);
  const auto sigmas = ip2p::LogLinearSigmas{}.sigmas(100);
  const auto start = at::randn({1, 4, 64, 64}).mul(sigmas.front());
  const auto zero = [](const at::Tensor& x, const ip2p::Step&) { return at::zeros_like(x); };
  for (auto _ : state) {
    ip2p::CounterNoise noise(ip2p::bench::seed);
    benchmark::DoNotOptimize(sampler.sample(zero, start, sigmas, noise));
  }
}

[[maybe_unused]] const bool registered = [] {
  for (const std::string_view name : ip2p::AnySampler::names()) {
    benchmark::RegisterBenchmark(("latent64/" + std::string(name) + "_100_steps").c_str(), loop, name)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }
  return true;
}();

}  // namespace
