#pragma once

/// \file
/// CRC-32, the checksum of zip archives, PNG and our shards.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#if defined(__x86_64__)
#include <smmintrin.h>
#include <wmmintrin.h>
#endif

namespace ip2p::detail {

/// What the bytes 0 to 255 do to a remainder, for each of the eight places that a byte can have in a word.
inline constexpr auto crc32_tables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t remainder = i;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0xEDB88320U : 0U);
    tables[0][i] = remainder;
  }
  for (std::size_t place = 1; place < 8; ++place) {
    for (std::size_t i = 0; i < 256; ++i) {
      const std::uint32_t before = tables[place - 1][i];
      tables[place][i] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}();

/// The remainder after `bytes`, eight at a time by tables.
inline std::uint32_t crc32_by_tables(std::span<const std::byte> bytes, std::uint32_t remainder) {
  const auto& tables = crc32_tables;
  while (bytes.size() >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    word ^= remainder;
    remainder = 0;
    for (std::size_t i = 0; i < 8; ++i) remainder ^= tables[7 - i][(word >> (8 * i)) & 0xFF];
    bytes = bytes.subspan(8);
  }
  for (const std::byte byte : bytes) {
    remainder = (remainder >> 8) ^ tables[0][(remainder ^ static_cast<std::uint32_t>(byte)) & 0xFF];
  }
  return remainder;
}

#if defined(__x86_64__)
/// The remainder after `bytes`, at least 64, by products without carries (Gopal et al. 2009, "Fast CRC Computation for
/// Generic Polynomials Using PCLMULQDQ Instruction"): 64 bytes are replaced by 16 that leave the same remainder.
[[gnu::target("pclmul,sse4.1")]] inline std::uint32_t crc32_by_products(std::span<const std::byte> bytes,
                                                                        std::uint32_t remainder) {
  const auto load = [](const std::byte* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };
  // x^(512+32), x^(512-32) and x^(128+32), x^(128-32), each modulo the polynomial, bits in reverse.
  const __m128i over_64 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
  const __m128i over_16 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
  const std::byte* from = bytes.data();
  std::size_t left = bytes.size();
  __m128i lanes[4] = {load(from), load(from + 16), load(from + 32), load(from + 48)};
  lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(static_cast<int>(remainder)));
  for (from += 64, left -= 64; left >= 64; from += 64, left -= 64) {
    for (int i = 0; i < 4; ++i) {
      const __m128i low = _mm_clmulepi64_si128(lanes[i], over_64, 0x00);
      const __m128i high = _mm_clmulepi64_si128(lanes[i], over_64, 0x11);
      lanes[i] = _mm_xor_si128(_mm_xor_si128(low, high), _mm_loadu_si128(reinterpret_cast<const __m128i*>(from) + i));
    }
  }
  __m128i folded = lanes[0];
  for (int i = 1; i < 4; ++i) {
    const __m128i low = _mm_clmulepi64_si128(folded, over_16, 0x00);
    const __m128i high = _mm_clmulepi64_si128(folded, over_16, 0x11);
    folded = _mm_xor_si128(_mm_xor_si128(low, high), lanes[i]);
  }
  std::array<std::byte, 16> rest{};
  _mm_storeu_si128(reinterpret_cast<__m128i*>(rest.data()), folded);
  return crc32_by_tables({from, left}, crc32_by_tables(rest, 0));
}
#endif

/// The CRC-32 of `before`'s bytes followed by `bytes`. \param before the CRC-32 so far, 0 at the start
inline std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before = 0) {
#if defined(__x86_64__)
  if (bytes.size() >= 64 && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
    return ~crc32_by_products(bytes, ~before);
  }
#endif
  return ~crc32_by_tables(bytes, ~before);
}

}  // namespace ip2p::detail
