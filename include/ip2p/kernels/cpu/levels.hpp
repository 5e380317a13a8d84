#pragma once

/// \file
/// Vector code for every processor from one source, in programs that are compiled without -march.
///
/// A file of functions, the body, is compiled once for each level of instructions, with the compiler's target pragmas:
///
///     #define IP2P_BODY "ip2p/kernels/cpu/fused.inc"
///     #include "ip2p/kernels/cpu/each_level.inc"
///
/// In the body, IP2P_LEVEL is the name of the level (`baseline`, `avx2` or `avx512`) and IP2P_LANES how many fp32
/// numbers a register holds. The body puts everything into `namespace ip2p::detail::cpu::IP2P_LEVEL` and follows these
/// rules:
/// - It includes nothing but other bodies: a header that is first seen under a pragma would be compiled for that level.
/// - It has no lambdas, which clang compiles without the level's instructions.
/// - Registers (vector types) are passed between its own functions alone, never across the table that dispatches.
///
/// The caller picks a level's functions by `at_cpu_level`, usually for `cpu_level`, which follows the choice of
/// LibTorch, and so ATEN_CPU_CAPABILITY. A program that links ip2p::compiled takes them from there, optimised whatever
/// the program itself is.

#include <c10/macros/Export.h>

#include <string>

// The declaration of ATen/Version.h, which brings all of ATen's context.
namespace at {
TORCH_API std::string get_cpu_capability();
}  // namespace at

/// Before the function that picks a body's functions: only ip2p::compiled defines it where that is linked, and
/// otherwise every unit.
#ifdef IP2P_COMPILED
#define IP2P_KERNEL_TABLE
#else
#define IP2P_KERNEL_TABLE inline
#endif

namespace ip2p::detail {

/// Instructions that vector code is compiled for.
enum class CpuLevel {
  baseline,  ///< What the program is compiled for: on x86-64 usually SSE2.
  avx2,      ///< AVX2 with FMA and F16C.
  avx512,    ///< AVX-512 F, BW, DQ and VL.
};

/// Whether vector code is compiled with optimisation, as that of ip2p::compiled is taken to be. Without it, it is
/// slower than LibTorch's operators.
inline constexpr bool vector_code_is_optimised =
#if defined(__OPTIMIZE__) || defined(IP2P_COMPILED)
    true;
#else
    false;
#endif

/// The level that LibTorch's own kernels use, if the processor has all of its instructions.
inline CpuLevel cpu_level() {
#if defined(__x86_64__)
  static const CpuLevel level = [] {
    const auto chosen = at::get_cpu_capability();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (avx2 && avx512 && chosen.starts_with("AVX512")) return CpuLevel::avx512;
    return avx2 && chosen.starts_with("AVX") ? CpuLevel::avx2 : CpuLevel::baseline;
  }();
  return level;
#else
  return CpuLevel::baseline;
#endif
}

/// The one of three values, e.g. tables of functions, that belongs to `level`. A processor that is not x86-64 has only
/// a baseline.
template <class Value>
const Value& at_cpu_level(CpuLevel level, const Value& baseline, const Value& avx2, const Value& avx512) {
  switch (level) {
    case CpuLevel::avx512:
      return avx512;
    case CpuLevel::avx2:
      return avx2;
    case CpuLevel::baseline:
      break;
  }
  return baseline;
}

}  // namespace ip2p::detail
