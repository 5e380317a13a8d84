// Start noise of a batch at 512 pixels, from each source.

#include "ip2p/core/any_noise.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/settings.hpp"

namespace {

void draw(benchmark::State& state, std::string_view name) {
  const std::vector<std::uint64_t> seeds{1, 2, 3, 4};
  std::int64_t number = 0;
  auto noise = ip2p::AnyNoise::named(name, seeds);
  for (auto _ : state) benchmark::DoNotOptimize(noise.normal({4, 4, 64, 64}, number++));
  state.SetItemsProcessed(state.iterations() * 4 * 4 * 64 * 64);
}

[[maybe_unused]] const bool noises_registered = [] {
  for (const std::string_view name : ip2p::AnyNoise::names()) {
    benchmark::RegisterBenchmark(("latent64/noise_" + std::string(name)).c_str(), draw, name)
        ->Unit(benchmark::kMicrosecond)
        ->UseRealTime();
  }
  return true;
}();

}  // namespace
