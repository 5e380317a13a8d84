// Resizing as the editor does it.

#include "ip2p/io/resample.hpp"
#include "support/pictures.hpp"
#include "support/settings.hpp"

namespace {

void resize_lanczos(benchmark::State& state) {
  const auto photo = ip2p::bench::scattered(state.range(0), state.range(0) * 2 / 3);
  const auto size = ip2p::released_size(photo.width, photo.height, 512);
  for (auto _ : state) benchmark::DoNotOptimize(ip2p::fit(photo, size.width, size.height, ip2p::Filter::lanczos));
  state.SetItemsProcessed(state.iterations() * photo.width * photo.height);
}

}  // namespace

BENCHMARK(resize_lanczos)->Name("io/fit_lanczos")->ArgName("width")->Arg(640)->Arg(3000)->Arg(6000)->UseRealTime();
