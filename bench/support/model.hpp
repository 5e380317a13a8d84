#pragma once

// The model folder that IP2P_BENCH_MODEL names.

#include <benchmark/benchmark.h>

#include <cstdlib>

#include "ip2p/io/model_files.hpp"

namespace ip2p::bench {

/// Calls `use(files)` with the model's files; skips the benchmark if it is unset.
template <class Use>
void with_model(benchmark::State& state, Use&& use) {
  const char* folder = std::getenv("IP2P_BENCH_MODEL");
  if (folder == nullptr) {
    state.SkipWithError("IP2P_BENCH_MODEL names no model folder");
    return;
  }
  use(ModelFiles::open(folder));
}

}  // namespace ip2p::bench
