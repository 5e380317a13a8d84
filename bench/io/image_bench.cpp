// Decoding a photograph.

#include "ip2p/io/image.hpp"
#include "support/pictures.hpp"
#include "support/settings.hpp"

namespace {

void decode_jpeg(benchmark::State& state) {
  const auto bytes = ip2p::encode_image(ip2p::bench::scattered(1536, 1024), ip2p::ImageFormat::jpeg);
  for (auto _ : state) benchmark::DoNotOptimize(ip2p::decode_image(bytes, "benchmark.jpg"));
  state.SetItemsProcessed(state.iterations() * 1536 * 1024);
}

}  // namespace

BENCHMARK(decode_jpeg)->Name("io/decode_jpeg")->UseRealTime();
