#pragma once

/// \file
/// The two passes of 8-bit resampling, along x and along y, which blend pixels with fixed-point weights.
///
/// The arithmetic is exact in 32-bit integers, so the vectorised and the plain code give the same bits.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace ip2p::detail {

/// Fraction bits of a weight: 32 minus 8 for the pixel and 2 for sign and overshoot, as in Pillow.
inline constexpr int weight_bits = 22;

/// Two neighbouring weights, each split as `high * 2^15 + low` with 0 <= low < 2^15. The halves suit the 16-bit
/// multiply-add that every x86-64 machine has; a 32-bit one would need compiler options that a library cannot set.
struct TapPair {
  std::array<std::int16_t, 2> low = {}, high = {};

  void set(std::size_t half, std::int32_t weight) {
    low[half] = static_cast<std::int16_t>(weight & 0x7fff);
    high[half] = static_cast<std::int16_t>(weight >> 15);
  }
  [[nodiscard]] std::int32_t weight(std::size_t half) const { return high[half] * (1 << 15) + low[half]; }
};

/// For each output position, the input positions it reads and their weights.
struct Taps {
  struct Range {
    std::int32_t first = 0, count = 0;
  };
  std::vector<Range> ranges;
  std::vector<TapPair> pairs;  ///< `pairs_each` for each output position; the last may have a zero weight
  std::size_t pairs_each = 0;

  [[nodiscard]] const TapPair* weights_of(std::size_t position) const { return pairs.data() + position * pairs_each; }
};

/// Number of bytes blended at a time.
inline constexpr std::size_t block_bytes = 16;

/// `out[i] = clip(round(sum over t of weight[t] * in[t * stride + i]))` for i < 16.
inline void blend_block(const std::uint8_t* in, std::size_t stride, const TapPair* pairs, std::int32_t count,
                        std::uint8_t* out) {
#if defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128();
  const __m128i half = _mm_set1_epi32(1 << (weight_bits - 1));
  __m128i low0 = half, low1 = half, low2 = half, low3 = half;
  __m128i high0 = zero, high1 = zero, high2 = zero, high3 = zero;
  for (std::int32_t t = 0; t < count; t += 2, ++pairs, in += 2 * stride) {
    std::int32_t low_pair, high_pair;
    std::memcpy(&low_pair, pairs->low.data(), sizeof low_pair);
    std::memcpy(&high_pair, pairs->high.data(), sizeof high_pair);
    const __m128i low = _mm_set1_epi32(low_pair), high = _mm_set1_epi32(high_pair);
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
    // With an odd count the last tap's partner has weight 0, so any readable bytes will do.
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(t + 1 < count ? in + stride : in));
    const __m128i left = _mm_unpacklo_epi8(a, b), right = _mm_unpackhi_epi8(a, b);
    const __m128i p0 = _mm_unpacklo_epi8(left, zero), p1 = _mm_unpackhi_epi8(left, zero);
    const __m128i p2 = _mm_unpacklo_epi8(right, zero), p3 = _mm_unpackhi_epi8(right, zero);
    low0 = _mm_add_epi32(low0, _mm_madd_epi16(p0, low));
    low1 = _mm_add_epi32(low1, _mm_madd_epi16(p1, low));
    low2 = _mm_add_epi32(low2, _mm_madd_epi16(p2, low));
    low3 = _mm_add_epi32(low3, _mm_madd_epi16(p3, low));
    high0 = _mm_add_epi32(high0, _mm_madd_epi16(p0, high));
    high1 = _mm_add_epi32(high1, _mm_madd_epi16(p1, high));
    high2 = _mm_add_epi32(high2, _mm_madd_epi16(p2, high));
    high3 = _mm_add_epi32(high3, _mm_madd_epi16(p3, high));
  }
  const auto sum = [](__m128i low, __m128i high) {
    return _mm_srai_epi32(_mm_add_epi32(low, _mm_slli_epi32(high, 15)), weight_bits);
  };
  // Packing with saturation clips to 0..255.
  const __m128i left = _mm_packs_epi32(sum(low0, high0), sum(low1, high1));
  const __m128i right = _mm_packs_epi32(sum(low2, high2), sum(low3, high3));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(left, right));
#else
  std::int32_t sums[block_bytes];
  std::fill(sums, sums + block_bytes, 1 << (weight_bits - 1));
  for (std::int32_t t = 0; t < count; ++t, in += stride) {
    const std::int32_t weight = pairs[t / 2].weight(static_cast<std::size_t>(t % 2));
    for (std::size_t i = 0; i < block_bytes; ++i) sums[i] += weight * in[i];
  }
  for (std::size_t i = 0; i < block_bytes; ++i) {
    out[i] = static_cast<std::uint8_t>(std::clamp(sums[i] >> weight_bits, 0, 255));
  }
#endif
}

/// Transposes `rows` <= 16 rows of `count` bytes: byte j of row r goes to `columns[j * 16 + r]`.
inline void transpose_rows(const std::uint8_t* in, std::size_t in_stride, std::size_t rows, std::size_t count,
                           std::uint8_t* columns) {
  std::size_t j = 0;
#if defined(__SSE2__)
  for (; rows == block_bytes && j + block_bytes <= count; j += block_bytes) {
    __m128i a[block_bytes], b[block_bytes];
    for (std::size_t r = 0; r < block_bytes; ++r) {
      a[r] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + r * in_stride + j));
    }
    // Interleaving the two halves four times transposes a 16 x 16 block.
    const auto interleave = [](const __m128i* from, __m128i* to) {
      for (std::size_t r = 0; r < block_bytes / 2; ++r) {
        to[2 * r] = _mm_unpacklo_epi8(from[r], from[r + block_bytes / 2]);
        to[2 * r + 1] = _mm_unpackhi_epi8(from[r], from[r + block_bytes / 2]);
      }
    };
    interleave(a, b);
    interleave(b, a);
    interleave(a, b);
    interleave(b, a);
    for (std::size_t r = 0; r < block_bytes; ++r) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(columns + (j + r) * block_bytes), a[r]);
    }
  }
#endif
  for (; j < count; ++j) {
    for (std::size_t r = 0; r < rows; ++r) columns[j * block_bytes + r] = in[r * in_stride + j];
  }
}

/// Computes output rows [begin, end) of the pass along x. Row y of `out` (`taps.ranges.size()` RGB pixels) comes from
/// row y of `in` (`in_width` RGB pixels). Blocks of 16 rows are transposed to make the bytes contiguous.
inline void blend_rows(const std::uint8_t* in, std::size_t in_width, const Taps& taps, std::uint8_t* out,
                       std::size_t begin, std::size_t end) {
  const std::size_t out_bytes = taps.ranges.size() * 3;
  // The starts and ends of the ranges never decrease along the axis.
  const std::int32_t first_x = taps.ranges.front().first;
  const std::int32_t end_x = taps.ranges.back().first + taps.ranges.back().count;
  const std::size_t columns_count = static_cast<std::size_t>(end_x - first_x) * 3;
  std::vector<std::uint8_t> columns(columns_count * block_bytes);
  for (std::size_t y = begin; y < end; y += block_bytes) {
    const std::size_t rows = std::min(block_bytes, end - y);
    transpose_rows(in + (y * in_width + static_cast<std::size_t>(first_x)) * 3, in_width * 3, rows, columns_count,
                   columns.data());
    std::uint8_t* out_rows = out + y * out_bytes;
    for (std::size_t x = 0; x < taps.ranges.size(); ++x) {
      const auto range = taps.ranges[x];
      std::uint8_t pixels[3][block_bytes];
      for (std::size_t channel = 0; channel < 3; ++channel) {
        const std::size_t column = static_cast<std::size_t>(range.first - first_x) * 3 + channel;
        blend_block(columns.data() + column * block_bytes, 3 * block_bytes, taps.weights_of(x), range.count,
                    pixels[channel]);
      }
      std::uint8_t* pixel = out_rows + x * 3;
      for (std::size_t row = 0; row < rows; ++row, pixel += out_bytes) {
        for (std::size_t channel = 0; channel < 3; ++channel) pixel[channel] = pixels[channel][row];
      }
    }
  }
}

/// Computes output rows [begin, end) of the pass along y. Rows have `row_bytes` bytes; `in` starts at row `first_row`.
inline void blend_columns(const std::uint8_t* in, std::size_t row_bytes, std::int32_t first_row, const Taps& taps,
                          std::uint8_t* out, std::size_t begin, std::size_t end) {
  for (std::size_t y = begin; y < end; ++y) {
    const auto range = taps.ranges[y];
    const std::uint8_t* from = in + static_cast<std::size_t>(range.first - first_row) * row_bytes;
    std::uint8_t* to = out + y * row_bytes;
    const TapPair* pairs = taps.weights_of(y);
    if (row_bytes < block_bytes) {
      for (std::size_t i = 0; i < row_bytes; ++i) {
        std::int32_t sum = 1 << (weight_bits - 1);
        for (std::int32_t t = 0; t < range.count; ++t) {
          sum +=
              pairs[t / 2].weight(static_cast<std::size_t>(t % 2)) * from[static_cast<std::size_t>(t) * row_bytes + i];
        }
        to[i] = static_cast<std::uint8_t>(std::clamp(sum >> weight_bits, 0, 255));
      }
      continue;
    }
    std::size_t i = 0;
    for (; i + block_bytes <= row_bytes; i += block_bytes) blend_block(from + i, row_bytes, pairs, range.count, to + i);
    if (i < row_bytes) {  // the last block overlaps the previous one
      i = row_bytes - block_bytes;
      blend_block(from + i, row_bytes, pairs, range.count, to + i);
    }
  }
}

}  // namespace ip2p::detail
