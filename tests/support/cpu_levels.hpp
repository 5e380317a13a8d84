#pragma once

/// \file
/// The levels of instructions that tests of vector code go through.

#include <string>
#include <utility>
#include <vector>

#include "ip2p/kernels/cpu/levels.hpp"

namespace ip2p::testing {

/// The levels that this processor runs, with their names, whatever level was chosen.
inline std::vector<std::pair<std::string, detail::CpuLevel>> cpu_levels() {
  std::vector<std::pair<std::string, detail::CpuLevel>> all{{"baseline", detail::CpuLevel::baseline}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    all.emplace_back("avx2", detail::CpuLevel::avx2);
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      all.emplace_back("avx512", detail::CpuLevel::avx512);
    }
  }
#endif
  return all;
}

}  // namespace ip2p::testing
