// Reading a file of weights, copied and mapped.

#include <ATen/ops/randn.h>

#include <filesystem>
#include <map>
#include <string>

#include "ip2p/io/safetensors.hpp"
#include "ip2p/io/write_safetensors.hpp"
#include "support/settings.hpp"

namespace {

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

BENCHMARK(read_safetensors)->Name("io/safetensors")->ArgName("mapped")->Arg(0)->Arg(1)->UseRealTime();
