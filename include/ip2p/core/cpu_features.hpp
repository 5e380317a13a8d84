#pragma once

/// \file
/// What this machine's CPU can do. LibTorch knows as well, but its header takes as long to compile as its tensors.

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdint>

namespace ip2p::detail {

/// Features that a processor reports. All zero for one that is not x86-64.
struct CpuFeatures {
  std::uint32_t saved = 0;  ///< Register states that the system saves: bits 5 to 7 of AVX-512, 17 and 18 of AMX tiles.
  std::uint32_t ebx = 0;    ///< Extended features (leaf 7 of CPUID).
  std::uint32_t ecx = 0;    ///< More of them.
  std::uint32_t edx = 0;    ///< More of them.
  std::uint32_t eax_1 = 0;  ///< More of them (leaf 7, part 1).
};

/// This machine's features.
inline const CpuFeatures& cpu_features() {
  static const CpuFeatures features = [] {
    CpuFeatures found;
#if defined(__x86_64__)
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
      found.ebx = ebx;
      found.ecx = ecx;
      found.edx = edx;
      if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) found.eax_1 = eax;
    }
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & (1U << 27)) != 0) {  // has XGETBV
      __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
      found.saved = eax;
    }
#endif
    return found;
  }();
  return features;
}

/// Whether a CPU has the AVX-512 instructions that oneDNN's 16-bit kernels use: BW, DQ and VL.
inline bool has_avx512(const CpuFeatures& cpu = cpu_features()) {
  constexpr std::uint32_t instructions = 1U << 30 | 1U << 17 | 1U << 31;
  return (cpu.saved & 0xe6U) == 0xe6U && (cpu.ebx & instructions) == instructions;
}

/// Whether a CPU can multiply bytes in AVX-512 registers (avx512_vnni).
inline bool has_avx512_vnni(const CpuFeatures& cpu = cpu_features()) {
  return has_avx512(cpu) && (cpu.ecx & 1U << 11) != 0;
}

/// Whether a CPU can multiply bytes in AVX2 registers (avx_vnni).
inline bool has_avx_vnni(const CpuFeatures& cpu = cpu_features()) {
  return (cpu.saved & 0x6U) == 0x6U && (cpu.eax_1 & 1U << 4) != 0;
}

/// Whether a CPU can multiply tiles of bf16 (AMX).
inline bool has_amx_bf16(const CpuFeatures& cpu = cpu_features()) {
  constexpr std::uint32_t instructions = 1U << 22 | 1U << 24;
  return (cpu.saved & 0x60000U) == 0x60000U && (cpu.edx & instructions) == instructions;
}

}  // namespace ip2p::detail
