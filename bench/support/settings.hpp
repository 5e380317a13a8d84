#pragma once

// What all benchmarks share: optimised builds only, fixed seeds, shapes by name.

#include <ATen/core/Tensor.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>
#include <sys/resource.h>

#ifndef NDEBUG
#error "Benchmarks measure optimised code: configure with CMAKE_BUILD_TYPE=Release."
#endif

namespace ip2p::bench {

inline constexpr std::uint64_t seed = 20230417;

/// Dtype of a benchmark argument: 0 fp32, 1 bf16, 2 fp16.
inline at::ScalarType dtype_of(std::int64_t argument) {
  return argument == 0 ? at::kFloat : argument == 1 ? at::kBFloat16 : at::kHalf;
}

inline const char* dtype_name(std::int64_t argument) {
  return argument == 0 ? "fp32" : argument == 1 ? "bf16" : "fp16";
}

/// Reports the process's peak memory so far, in GiB, next to the times.
inline void report_peak_memory(benchmark::State& state) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  state.counters["peak_GiB"] = static_cast<double>(usage.ru_maxrss) / (1024.0 * 1024.0);
}

}  // namespace ip2p::bench
