// Makes tests/core/fixtures/cuda_noise.json: the normal values of torch's CUDA generator, by cuRAND's own code compiled
// for the CPU and in the order in which torch's kernel calls it (ATen/native/cuda/DistributionTemplates.h). On a CPU
// that code uses the exact sine, on a GPU a fast instruction, which differs by up to about 1e-6.
//
// Usage: g++ -O1 -I/usr/local/cuda/include tests/parity/make_cuda_noise_fixtures.cpp -o make && ./make FIXTURE

#define QUALIFIERS static inline
#include <cuda_runtime.h>
#include <curand_kernel.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

struct Gpu {
  std::int64_t multiprocessors, threads;
};

// One torch.randn of `numel` values; `offset` is that of the generator, counted in single numbers.
std::vector<float> randn(std::uint64_t seed, std::uint64_t& offset, std::int64_t numel, Gpu gpu) {
  const std::int64_t block = 256;
  const std::int64_t grid = std::min(gpu.multiprocessors * (gpu.threads / block), (numel + block - 1) / block);
  const std::int64_t stride = block * grid * 4;
  std::vector<float> out(numel);
  for (std::int64_t index = 0; index < block * grid; ++index) {
    curandStatePhilox4_32_10_t state;
    curand_init(seed, index, offset, &state);
    for (std::int64_t linear = index; linear < ((numel - 1) / stride + 1) * stride; linear += stride) {
      const float4 values = curand_normal4(&state);
      const float each[] = {values.x, values.y, values.z, values.w};
      for (std::int64_t i = 0; i < 4; ++i) {
        if (linear + block * grid * i < numel) out[linear + block * grid * i] = each[i];
      }
    }
  }
  offset += ((numel - 1) / stride + 1) * 4;
  return out;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  std::FILE* file = std::fopen(arguments[1], "w");
  if (file == nullptr) return 1;
  const Gpu a100{108, 2048};
  const Gpu tiny{2, 512};  // 1,024 threads: larger tensors need the second value, and even larger ones the second call
  struct Stream {
    std::uint64_t seed;
    Gpu gpu;
    std::vector<std::int64_t> draws;
  };
  const Stream streams[] = {
      {0, a100, {12, 1, 300, 16}},          {42, a100, {16384, 16384, 5}},       {(1ULL << 40) + 17, a100, {20, 20}},
      {18446744073709551615ULL, a100, {7}}, {7, tiny, {1024, 1025, 4096, 4097}}, {8, tiny, {9000, 3, 2100}},
  };
  std::fprintf(file, "{\"made_by\":\"cuRAND on a CPU\",\"streams\":[\n");
  bool first = true;
  for (const auto& stream : streams) {
    std::fprintf(file, "%s{\"seed\":\"%llu\",\"gpu\":[%lld,%lld],\"draws\":[", first ? "" : ",\n",
                 static_cast<unsigned long long>(stream.seed), static_cast<long long>(stream.gpu.multiprocessors),
                 static_cast<long long>(stream.gpu.threads));
    first = false;
    std::uint64_t offset = 0;
    for (std::size_t k = 0; k < stream.draws.size(); ++k) {
      const auto values = randn(stream.seed, offset, stream.draws[k], stream.gpu);
      // For a large draw, every 97th value and the number of values.
      std::fprintf(file, "%s{\"count\":%zu,\"every\":%d,\"values\":[", k ? "," : "", values.size(),
                   values.size() > 300 ? 97 : 1);
      const std::size_t step = values.size() > 300 ? 97 : 1;
      for (std::size_t i = 0; i < values.size(); i += step) {
        std::fprintf(file, "%s%.9g", i ? "," : "", static_cast<double>(values[i]));
      }
      std::fprintf(file, "]}");
    }
    std::fprintf(file, "]}");
  }
  std::fprintf(file, "\n]}\n");
  return std::fclose(file) == 0 ? 0 : 1;
}
