#pragma once

/// \file
/// The order of a 3x3 convolution's weights for Winograd's filtering (kernels/cpu/winograd.hpp).

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>

#include "ip2p/core/large_pages.hpp"
#include "ip2p/kernels/cpu/threads.hpp"

namespace ip2p::detail::cpu {

/// Output channels whose weights lie together: a cache line of fp32.
inline constexpr std::int64_t winograd_line = 16;

/// Columns of a matrix [rows, columns], as the rows of another: to[c * to_row + r] = from[r * from_row + c] for c in
/// [first, last). Squares of whole cache lines, so that each line is fetched once.
inline void transpose_columns(const float* from, std::int64_t rows, std::int64_t from_row, std::int64_t first,
                              std::int64_t last, float* to, std::int64_t to_row) {
  constexpr std::int64_t line = 16, wide = 4 * line;
  for (auto left = first; left < last; left += wide) {
    const auto right = std::min(left + wide, last);
    for (std::int64_t top = 0; top < rows; top += line) {
      const auto height = std::min(line, rows - top);
      for (auto c = left; c < right; ++c) {
        const float* column = from + top * from_row + c;
        float* row = to + c * to_row + top;
        if (height == line) {
#pragma GCC unroll 16
          for (std::int64_t r = 0; r < line; ++r) row[r] = column[r * from_row];
        } else {
          for (std::int64_t r = 0; r < height; ++r) row[r] = column[r * from_row];
        }
      }
    }
  }
}

/// `weight` [out, in, 3, 3] in the order that `winograd` reads, [out / 16, in, 3, 3, 16]: what is multiplied together
/// lies together, because memory is read several times as fast in one go as in pieces of a line or two.
/// \param weight its `out` is a multiple of 16
inline at::Tensor winograd_weight(const at::Tensor& weight) {
  const auto out = weight.size(0);
  const auto in = weight.size(1);
  const auto lines = out / winograd_line;
  const bool last = weight.is_contiguous(at::MemoryFormat::ChannelsLast);
  if (weight.scalar_type() != at::kFloat || !weight.is_cpu() || weight.numel() == 0 ||
      !(last || weight.is_contiguous())) {
    return weight.reshape({lines, winograd_line, in, 3, 3}).permute({0, 2, 3, 4, 1}).contiguous();
  }
  // Transposed matrices: of each line [16, in * 3 * 3], or [16, in] for each tap. LibTorch's copy takes several times
  // as long.
  auto ordered = at::empty({lines, in, 3, 3, winograd_line}, weight.options().requires_grad(false));
  const auto* from = weight.const_data_ptr<float>();
  auto* to = ordered.mutable_data_ptr<float>();
  ask_for_large_pages(to, ordered.nbytes());
  const auto each = 9 * in * winograd_line;
  in_threads(lines, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto place = begin * each; place < end * each; place += each) {
      if (!last) {
        transpose_columns(from + place, winograd_line, 9 * in, 0, 9 * in, to + place, winograd_line);
        continue;
      }
      for (std::int64_t tap = 0; tap < 9; ++tap) {
        transpose_columns(from + place + tap * in, winograd_line, 9 * in, 0, in, to + place + tap * winograd_line,
                          9 * winograd_line);
      }
    }
  });
  return ordered;
}

/// Whether `weight` is the result of `winograd_weight` for one of fp32 on the CPU.
inline bool is_winograd_weight(const at::Tensor& weight) {
  return weight.device().is_cpu() && weight.layout() == at::kStrided && weight.scalar_type() == at::kFloat &&
         weight.dim() == 5 && weight.size(2) == 3 && weight.size(3) == 3 && weight.size(4) == winograd_line &&
         weight.is_contiguous();
}

/// The weight [out, in, 3, 3], contiguous, that `winograd_weight` made `ordered` of.
inline at::Tensor plain_winograd_weight(const at::Tensor& ordered) {
  const auto lines = ordered.size(0);
  const auto in = ordered.size(1);
  auto plain = at::empty({lines * winograd_line, in, 3, 3}, ordered.options().requires_grad(false));
  const auto* from = ordered.const_data_ptr<float>();
  auto* to = plain.mutable_data_ptr<float>();
  const auto each = 9 * in * winograd_line;
  in_threads(lines, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto place = begin * each; place < end * each; place += each) {
      transpose_columns(from + place, 9 * in, winograd_line, 0, winograd_line, to + place, 9 * in);
    }
  });
  return plain;
}

}  // namespace ip2p::detail::cpu
