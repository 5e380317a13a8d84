#pragma once

/// \file
/// The two passes of 8-bit resampling: rows are blended with fixed-point weights, along x and along y.
///
/// The arithmetic is plain 32-bit integers, so every path gives the same bits; vectors only change the speed.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace ip2p::detail {

/// Fraction bits of a weight: 32 less 8 of a pixel less 2 for sign and overshoot, as in Pillow.
inline constexpr int weight_bits = 22;

/// For each output position, the input positions it reads and their weights.
struct Taps {
  struct Range {
    std::int32_t first = 0, count = 0;
  };
  std::vector<Range> ranges;
  std::vector<std::int32_t> weights;  ///< `stride` values for each output position
  std::size_t stride = 0;
};

inline std::uint8_t weighted_pixel(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> weight_bits, 0, 255));
}

#if defined(__GNUC__)
#define IP2P_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define IP2P_ALWAYS_INLINE inline
#endif

// Vectors of the compiler's own, so that one source serves SSE2, AVX2 and NEON.
using Bytes8 __attribute__((vector_size(8))) = std::uint8_t;
using Ints8 __attribute__((vector_size(32))) = std::int32_t;

IP2P_ALWAYS_INLINE void add_weighted(Ints8& sum, const std::uint8_t* pixels, std::int32_t weight) {
  Bytes8 bytes;
  std::memcpy(&bytes, pixels, sizeof bytes);
  sum += __builtin_convertvector(bytes, Ints8) * weight;
}

IP2P_ALWAYS_INLINE void store_pixels(std::uint8_t* out, const Ints8& weighted) {
  Ints8 sum = weighted >> weight_bits;
  sum = sum < 0 ? Ints8{} : sum;
  sum = sum > 255 ? Ints8{} + 255 : sum;
  const Bytes8 bytes = __builtin_convertvector(sum, Bytes8);
  std::memcpy(out, &bytes, sizeof bytes);
}

/// `out[i] = clip(sum over t of weights[t] * in[t * in_stride + i])` for `count` bytes.
IP2P_ALWAYS_INLINE void blend_rows_body(const std::uint8_t* in, std::size_t in_stride, const std::int32_t* weights,
                                        std::int32_t taps, std::uint8_t* out, std::size_t count) {
  constexpr std::int32_t half = 1 << (weight_bits - 1);
  constexpr std::size_t block = 32;
  std::size_t i = 0;
  for (; i + block <= count; i += block) {
    Ints8 a = Ints8{} + half, b = a, c = a, d = a;
    const std::uint8_t* row = in + i;
    for (std::int32_t t = 0; t < taps; ++t, row += in_stride) {
      add_weighted(a, row, weights[t]);
      add_weighted(b, row + 8, weights[t]);
      add_weighted(c, row + 16, weights[t]);
      add_weighted(d, row + 24, weights[t]);
    }
    store_pixels(out + i, a);
    store_pixels(out + i + 8, b);
    store_pixels(out + i + 16, c);
    store_pixels(out + i + 24, d);
  }
  for (; i < count; ++i) {
    std::int32_t sum = half;
    for (std::int32_t t = 0; t < taps; ++t) sum += weights[t] * in[static_cast<std::size_t>(t) * in_stride + i];
    out[i] = weighted_pixel(sum);
  }
}

/// Rows that one call of `blend_columns` takes together.
inline constexpr std::size_t rows_together = 16;

/// Blends RGB pixels along x for 16 rows at once. `columns` holds the rows transposed, byte r of column j at
/// `columns[j * 16 + r]` where j = (x - first_x) * 3 + channel, so that the loop over rows is contiguous.
IP2P_ALWAYS_INLINE void blend_columns_body(const std::uint8_t* columns, std::int32_t first_x, const Taps& taps,
                                           std::uint8_t* const* out_rows, std::size_t rows) {
  constexpr std::int32_t half = 1 << (weight_bits - 1);
  for (std::size_t x = 0; x < taps.ranges.size(); ++x) {
    const auto range = taps.ranges[x];
    const std::int32_t* weights = taps.weights.data() + x * taps.stride;
    const std::uint8_t* in = columns + static_cast<std::size_t>(range.first - first_x) * 3 * rows_together;
    Ints8 r0 = Ints8{} + half, r1 = r0, g0 = r0, g1 = r0, b0 = r0, b1 = r0;
    for (std::int32_t t = 0; t < range.count; ++t, in += 3 * rows_together) {
      add_weighted(r0, in, weights[t]);
      add_weighted(r1, in + 8, weights[t]);
      add_weighted(g0, in + 16, weights[t]);
      add_weighted(g1, in + 24, weights[t]);
      add_weighted(b0, in + 32, weights[t]);
      add_weighted(b1, in + 40, weights[t]);
    }
    std::uint8_t pixels[3][rows_together];
    store_pixels(pixels[0], r0);
    store_pixels(pixels[0] + 8, r1);
    store_pixels(pixels[1], g0);
    store_pixels(pixels[1] + 8, g1);
    store_pixels(pixels[2], b0);
    store_pixels(pixels[2] + 8, b1);
    for (std::size_t row = 0; row < rows; ++row) {
      std::uint8_t* pixel = out_rows[row] + x * 3;
      pixel[0] = pixels[0][row];
      pixel[1] = pixels[1][row];
      pixel[2] = pixels[2][row];
    }
  }
}

inline void blend_rows_portable(const std::uint8_t* in, std::size_t in_stride, const std::int32_t* weights,
                                std::int32_t taps, std::uint8_t* out, std::size_t count) {
  blend_rows_body(in, in_stride, weights, taps, out, count);
}

inline void blend_columns_portable(const std::uint8_t* columns, std::int32_t first_x, const Taps& taps,
                                   std::uint8_t* const* out_rows, std::size_t rows) {
  blend_columns_body(columns, first_x, taps, out_rows, rows);
}

// The library sets no machine flags for its users, so the wider vectors are chosen at run time.
#if defined(__x86_64__)
__attribute__((target("avx2"))) inline void blend_rows_avx2(const std::uint8_t* in, std::size_t in_stride,
                                                            const std::int32_t* weights, std::int32_t taps,
                                                            std::uint8_t* out, std::size_t count) {
  blend_rows_body(in, in_stride, weights, taps, out, count);
}

__attribute__((target("avx2"))) inline void blend_columns_avx2(const std::uint8_t* columns, std::int32_t first_x,
                                                               const Taps& taps, std::uint8_t* const* out_rows,
                                                               std::size_t rows) {
  blend_columns_body(columns, first_x, taps, out_rows, rows);
}

inline bool has_wide_vectors() { return __builtin_cpu_supports("avx2") != 0; }
inline constexpr auto blend_rows_wide = blend_rows_avx2;
inline constexpr auto blend_columns_wide = blend_columns_avx2;
#else
inline bool has_wide_vectors() { return false; }
inline constexpr auto blend_rows_wide = blend_rows_portable;
inline constexpr auto blend_columns_wide = blend_columns_portable;
#endif

/// Output rows [begin, end) of the pass along x. Row y of `out` (of `taps.ranges.size()` pixels) comes from row
/// y + row_offset of `in` (rows of `in_width` RGB pixels).
inline void resample_rows(const std::uint8_t* in, std::size_t in_width, std::size_t row_offset, const Taps& taps,
                          std::uint8_t* out, std::size_t begin, std::size_t end, bool wide) {
  const std::size_t out_bytes = taps.ranges.size() * 3;
  // First positions and ends do not decrease along the axis.
  const std::int32_t first_x = taps.ranges.front().first;
  const std::int32_t last_x = taps.ranges.back().first + taps.ranges.back().count;
  const std::size_t columns_count = static_cast<std::size_t>(last_x - first_x) * 3;
  std::vector<std::uint8_t> columns(columns_count * rows_together);
  for (std::size_t y = begin; y < end; y += rows_together) {
    const std::size_t rows = std::min(rows_together, end - y);
    std::uint8_t* out_rows[rows_together] = {};
    for (std::size_t row = 0; row < rows; ++row) {
      out_rows[row] = out + (y + row) * out_bytes;
      const std::uint8_t* from = in + ((y + row + row_offset) * in_width + static_cast<std::size_t>(first_x)) * 3;
      for (std::size_t j = 0; j < columns_count; ++j) columns[j * rows_together + row] = from[j];
    }
    (wide ? blend_columns_wide : blend_columns_portable)(columns.data(), first_x, taps, out_rows, rows);
  }
}

/// Output rows [begin, end) of the pass along y; rows have `row_bytes` bytes and `in` begins with row `first_row`.
inline void resample_columns(const std::uint8_t* in, std::size_t row_bytes, std::int32_t first_row, const Taps& taps,
                             std::uint8_t* out, std::size_t begin, std::size_t end, bool wide) {
  for (std::size_t y = begin; y < end; ++y) {
    const auto range = taps.ranges[y];
    (wide ? blend_rows_wide : blend_rows_portable)(
        in + static_cast<std::size_t>(range.first - first_row) * row_bytes, row_bytes,
        taps.weights.data() + y * taps.stride, range.count, out + y * row_bytes, row_bytes);
  }
}

}  // namespace ip2p::detail
