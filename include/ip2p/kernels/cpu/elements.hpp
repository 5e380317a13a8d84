#pragma once

/// \file
/// Numbers in memory as the vector code of the CPU sees them.

#include <bit>
#include <cstdint>

namespace ip2p::detail::cpu {

/// A bfloat16 number, the upper half of an fp32 number.
struct Bf16 {
  std::uint16_t bits;
};

/// One number in fp32.
inline float number(const float* p) { return *p; }

/// One number in fp32.
inline float number(const Bf16* p) { return std::bit_cast<float>(static_cast<std::uint32_t>(p->bits) << 16U); }

/// Stores one number.
inline void put(float* p, float v) { *p = v; }

/// Stores one number, rounded to the nearest, ties to even; NaN stays NaN.
inline void put(Bf16* p, float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  const auto rounded = (bits + 0x7fffU + ((bits >> 16U) & 1U)) >> 16U;
  p->bits = static_cast<std::uint16_t>(v == v ? rounded : 0x7fc0U);
}

}  // namespace ip2p::detail::cpu
