#pragma once

/// \file
/// What this machine's CPU can do. LibTorch knows as well, but its header takes as long to compile as its tensors.

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>
#endif

namespace ip2p::detail {

#if defined(__x86_64__)
/// Register states that the operating system saves: bits 5 to 7 those of AVX-512, 17 and 18 those of AMX tiles.
inline std::uint32_t saved_states() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & (1U << 27)) == 0) return 0;  // no XGETBV
  __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return eax;
}

/// Whether all of `ebx_bits` and `edx_bits` are set in leaf 7 of CPUID, the extended features.
inline bool extended_features(std::uint32_t ebx_bits, std::uint32_t edx_bits) {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & ebx_bits) == ebx_bits &&
         (edx & edx_bits) == edx_bits;
}
#endif

/// Whether the CPU has the AVX-512 instructions that oneDNN's 16-bit kernels are made of: BW, DQ and VL.
inline bool has_avx512() {
#if defined(__x86_64__)
  static const bool has = (saved_states() & 0xe6U) == 0xe6U && extended_features(1U << 30 | 1U << 17 | 1U << 31, 0);
  return has;
#else
  return false;
#endif
}

/// Whether the CPU multiplies tiles of bf16 (AMX).
inline bool has_amx_bf16() {
#if defined(__x86_64__)
  static const bool has = (saved_states() & 0x60000U) == 0x60000U && extended_features(0, 1U << 22 | 1U << 24);
  return has;
#else
  return false;
#endif
}

}  // namespace ip2p::detail
