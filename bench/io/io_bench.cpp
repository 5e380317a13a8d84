// Photographs and weight files: resizing as the editor does it, JPEG decoding, and reading safetensors.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "support/settings.hpp"

namespace {

ip2p::Image gradient(std::int64_t width, std::int64_t height) {
  ip2p::Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  for (std::size_t i = 0; i < image.pixels.size(); ++i)
    image.pixels[i] = static_cast<std::uint8_t>(i * 2654435761U >> 24);
  return image;
}

void resize_lanczos(benchmark::State& state) {
  const auto photo = gradient(state.range(0), state.range(0) * 2 / 3);
  const auto size = ip2p::released_size(photo.width, photo.height, 512);
  for (auto _ : state) benchmark::DoNotOptimize(ip2p::fit(photo, size.width, size.height, ip2p::Filter::lanczos));
  state.SetItemsProcessed(state.iterations() * photo.width * photo.height);
}

void decode_jpeg(benchmark::State& state) {
  const auto bytes = ip2p::encode_image(gradient(1536, 1024), ip2p::ImageFormat::jpeg);
  for (auto _ : state) benchmark::DoNotOptimize(ip2p::decode_image(bytes, "benchmark.jpg"));
  state.SetItemsProcessed(state.iterations() * 1536 * 1024);
}

void read_safetensors(benchmark::State& state) {
  const auto path = std::filesystem::temp_directory_path() / "ip2p-bench.safetensors";
  std::map<std::string, at::Tensor> tensors;
  for (int i = 0; i < 64; ++i) tensors["tensor." + std::to_string(i)] = at::randn({1024, 1024});
  ip2p::write_safetensors(path, tensors);
  const ip2p::SafetensorsOptions options{.access = state.range(0) == 0 ? ip2p::WeightAccess::copied
                                                                       : ip2p::WeightAccess::mapped};
  for (auto _ : state) {
    const auto file = ip2p::SafetensorsFile::open(path, options);
    for (const auto& [name, tensor] : tensors) benchmark::DoNotOptimize(file.tensor(name));
  }
  state.SetLabel(state.range(0) == 0 ? "copied" : "mapped");
  state.SetBytesProcessed(state.iterations() * 64 * 4 * 1024 * 1024);
  std::filesystem::remove(path);
}

}  // namespace

BENCHMARK(resize_lanczos)->Name("io/fit_lanczos")->ArgName("width")->Arg(640)->Arg(3000)->Arg(6000)->UseRealTime();
BENCHMARK(decode_jpeg)->Name("io/decode_jpeg")->UseRealTime();
BENCHMARK(read_safetensors)->Name("io/safetensors")->ArgName("mapped")->Arg(0)->Arg(1)->UseRealTime();
