#pragma once

/// \file
/// Products of matrices in 8 bits: weights are rounded once, with one scale for each output channel, rows of the input
/// at each call, with a scale and an offset for each row. Sums are exact integers on every processor, so that the error
/// is that of the rounding alone.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>

#include "ip2p/core/cpu_features.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/kernels/cpu/vectors.hpp"

namespace ip2p::detail::cpu {

inline constexpr std::int64_t int8_group = 16;          ///< Output channels whose weights lie together.
inline constexpr std::int64_t int8_most_depth = 65536;  ///< Input channels whose sum fits 32 bits: 2^31 / (255 * 127).

/// Rows of numbers least + step * value.
struct Int8Rows {
  const std::uint8_t* values;  ///< [rows, depth].
  const float* step;           ///< [rows].
  const float* least;          ///< [rows].
  std::int64_t rows, depth;    ///< `depth` is a multiple of 16.
};

/// Weights scale * value of a linear layer.
struct Int8Columns {
  const std::int8_t* values;  ///< [groups, depth / 4, int8_group, 4].
  const float* scale;         ///< [out].
  const float* sums;          ///< [out], sums of the values.
  const float* bias;          ///< [out] or null.
};

/// The passes over registers at one level of instructions.
struct Int8Passes {
  /// Rounds a row of `depth` numbers, a multiple of 16, to multiples of `step` above `least`. NaN and infinity make
  /// `step` NaN.
  void (*quantise)(const float* x, std::int64_t depth, std::uint8_t* to, float* step, float* least);
  /// y = x w + bias for the groups [from, to) of columns; rows of y are `row` numbers apart.
  void (*multiply)(const Int8Rows& x, const Int8Columns& w, std::int64_t from, std::int64_t to, float* y,
                   std::int64_t row);
  /// The same by the instructions of VNNI, which the processor must have; see `int8_by_vnni`.
  void (*multiply_vnni)(const Int8Rows& x, const Int8Columns& w, std::int64_t from, std::int64_t to, float* y,
                        std::int64_t row);
  /// Weights `scale` * value in fp32, for `rows` rows of `width` channels, a multiple of 16, which lie `step` apart, to
  /// rows `row` apart.
  void (*widen)(const std::int8_t* from, std::int64_t step, std::int64_t width, std::int64_t rows, const float* scale,
                float* to, std::int64_t row);
};

/// The passes at `level`, which the processor must have.
const Int8Passes& int8_passes(CpuLevel level);

/// Whether the processor has the instruction that the passes at `level` use for products in 8 bits.
inline bool int8_by_vnni(CpuLevel level) {
  return level == CpuLevel::avx512 ? has_avx512_vnni() : level == CpuLevel::avx2 && has_avx_vnni();
}

}  // namespace ip2p::detail::cpu

namespace ip2p {

/// Whether this processor has instructions for products in 8 bits (avx512_vnni or avx_vnni), and LibTorch's choice of
/// instructions (ATEN_CPU_CAPABILITY) lets them be used. Elsewhere `use_int8` (nn/int8.hpp) saves memory alone.
[[nodiscard]] inline bool int8_is_faster() { return detail::cpu::int8_by_vnni(detail::cpu_level()); }

}  // namespace ip2p

#if !defined(IP2P_COMPILED) || defined(IP2P_KERNEL_DEFINITIONS)
/// The passes, compiled for every level below; undefined again there.
#define IP2P_BODY "ip2p/kernels/cpu/int8.inc"
#include "ip2p/kernels/cpu/each_level.inc"

namespace ip2p::detail::cpu {
IP2P_KERNEL_TABLE const Int8Passes& int8_passes(CpuLevel level) {  // NOLINT(misc-definitions-in-headers)
  return at_cpu_level(level, baseline::int8::passes, avx2::int8::passes, avx512::int8::passes);
}
}  // namespace ip2p::detail::cpu
#endif

namespace ip2p::detail::cpu {

/// `weight` [out, in] of whole numbers, int8, in the order of `Int8Columns`. \param weight both sizes multiples of 16
inline at::Tensor int8_columns(const at::Tensor& weight) {
  return weight.reshape({weight.size(0) / int8_group, int8_group, weight.size(1) / 4, 4})
      .permute({0, 2, 1, 3})
      .contiguous();
}

/// x W^T + bias with both in 8 bits. A row's bits depend on that row alone.
/// \param x [rows, in], fp32, without gaps  \param values of `int8_columns`  \param scale [out], fp32
/// \param sums [out], fp32: those of the values of each output channel  \param bias [out], fp32, or undefined
/// \param vnni whether to use the instruction for it, which the processor must then have at `level`
/// \return [rows, out], fp32
inline at::Tensor int8_product(const at::Tensor& x, const at::Tensor& values, const at::Tensor& scale,
                               const at::Tensor& sums, const at::Tensor& bias, CpuLevel level, bool vnni) {
  const auto rows = x.size(0), depth = x.size(1), out = scale.size(0);
  auto y = at::empty({rows, out}, x.options());
  const auto& passes = int8_passes(level);
  const auto multiply = vnni ? passes.multiply_vnni : passes.multiply;
  const auto rounded = at::empty({rows, depth}, x.options().dtype(at::kByte));
  const auto steps = at::empty({2, rows}, x.options());
  const float* from = x.const_data_ptr<float>();
  auto* bytes = rounded.mutable_data_ptr<std::uint8_t>();
  float* step = steps.mutable_data_ptr<float>();
  float* least = step + rows;
  in_threads(rows, (std::int64_t{1} << 15) / depth, [&](std::int64_t first, std::int64_t last) {
    for (auto r = first; r < last; ++r) {
      passes.quantise(from + r * depth, depth, bytes + r * depth, step + r, least + r);
    }
  });
  const Int8Columns columns{.values = values.const_data_ptr<std::int8_t>(),
                            .scale = scale.const_data_ptr<float>(),
                            .sums = sums.const_data_ptr<float>(),
                            .bias = bias.defined() ? bias.const_data_ptr<float>() : nullptr};
  // Parts whose rows stay in the second cache while all columns of the part go by.
  const auto block = std::clamp<std::int64_t>((std::int64_t{1} << 17) / depth / 24 * 24, 24, 192);
  constexpr std::int64_t together = 8;  // groups of columns
  const auto groups = out / int8_group, across = (groups + together - 1) / together;
  float* result = y.mutable_data_ptr<float>();
  in_threads((rows + block - 1) / block * across, 1, [&](std::int64_t first, std::int64_t last) {
    for (auto part = first; part < last; ++part) {
      const auto row = part / across * block;
      const auto group = part % across * together;
      multiply({.values = bytes + row * depth,
                .step = step + row,
                .least = least + row,
                .rows = std::min(block, rows - row),
                .depth = depth},
               columns, group, std::min(group + together, groups), result + row * out, out);
    }
  });
  return y;
}

}  // namespace ip2p::detail::cpu
