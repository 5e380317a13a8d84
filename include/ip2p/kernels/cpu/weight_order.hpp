#pragma once

/// \file
/// The order of weights that the vector code of Winograd's filtering (kernels/cpu/winograd.hpp) and of linear layers
/// (kernels/cpu/linear.hpp) reads.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ip2p/core/large_pages.hpp"
#include "ip2p/kernels/cpu/threads.hpp"

namespace ip2p::detail::cpu {

/// Output channels whose weights lie together: a cache line of fp32.
inline constexpr std::int64_t weight_line = 16;

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
  const auto lines = out / weight_line;
  const bool last = weight.is_contiguous(at::MemoryFormat::ChannelsLast);
  if (weight.scalar_type() != at::kFloat || !weight.is_cpu() || weight.numel() == 0 ||
      !(last || weight.is_contiguous())) {
    return weight.reshape({lines, weight_line, in, 3, 3}).permute({0, 2, 3, 4, 1}).contiguous();
  }
  // Transposed matrices: of each line [16, in * 3 * 3], or [16, in] for each tap. LibTorch's copy takes several times
  // as long.
  auto ordered = at::empty({lines, in, 3, 3, weight_line}, weight.options().requires_grad(false));
  const auto* from = weight.const_data_ptr<float>();
  auto* to = ordered.mutable_data_ptr<float>();
  ask_for_large_pages(to, ordered.nbytes());
  const auto each = 9 * in * weight_line;
  in_threads(lines, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto place = begin * each; place < end * each; place += each) {
      if (!last) {
        transpose_columns(from + place, weight_line, 9 * in, 0, 9 * in, to + place, weight_line);
        continue;
      }
      for (std::int64_t tap = 0; tap < 9; ++tap) {
        transpose_columns(from + place + tap * in, weight_line, 9 * in, 0, in, to + place + tap * weight_line,
                          9 * weight_line);
      }
    }
  });
  return ordered;
}

/// Whether `weight` ends in a line, with `side` as height and width.
inline bool ends_in_line(const at::Tensor& weight, std::int64_t side) {
  const auto dimensions = weight.dim();
  return (dimensions == 4 || dimensions == 5) && weight.size(dimensions - 1) == weight_line && weight.size(2) == side &&
         weight.size(dimensions - 2) == side && weight.device().is_cpu() && weight.layout() == at::kStrided &&
         weight.scalar_type() == at::kFloat && weight.is_contiguous();
}

/// Whether `weight` is the result of `winograd_weight` for one of fp32 on the CPU.
inline bool is_winograd_weight(const at::Tensor& weight) { return weight.dim() == 5 && ends_in_line(weight, 3); }

/// Whether `weight` is a result of `linear_weight` (kernels/cpu/linear.hpp): [out / 16, in, 1, 16] of [out, in], or
/// [out / 16, in, 1, 1, 16] of [out, in, 1, 1].
inline bool is_linear_weight(const at::Tensor& weight) { return ends_in_line(weight, 1); }

/// Whether `weight` is in one of these orders.
inline bool is_ordered_weight(const at::Tensor& weight) {
  return is_winograd_weight(weight) || is_linear_weight(weight);
}

/// The sizes of the weight that `winograd_weight` or `linear_weight` made `ordered` of.
inline std::vector<std::int64_t> plain_sizes(const at::Tensor& ordered) {
  if (ordered.dim() == 4) return {ordered.size(0) * weight_line, ordered.size(1)};
  return {ordered.size(0) * weight_line, ordered.size(1), ordered.size(2), ordered.size(3)};
}

/// The weight, contiguous, that `winograd_weight` or `linear_weight` made `ordered` of.
inline at::Tensor plain_weight(const at::Tensor& ordered) {
  const auto lines = ordered.size(0);
  const auto each = ordered.stride(0);
  auto plain = at::empty(plain_sizes(ordered), ordered.options().requires_grad(false));
  const auto* from = ordered.const_data_ptr<float>();
  auto* to = plain.mutable_data_ptr<float>();
  in_threads(lines, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto place = begin * each; place < end * each; place += each) {
      transpose_columns(from + place, each / weight_line, weight_line, 0, weight_line, to + place, each / weight_line);
    }
  });
  return plain;
}

}  // namespace ip2p::detail::cpu
