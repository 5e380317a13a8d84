#pragma once

/// \file
/// Linear layers on a CPU in fp32, without gradients: y = x W^T + b, with a residual to add or a gate to multiply by,
/// in blocks that stay in the caches.
///
/// Weights are read in the order of `linear_weight`, in which frozen layers keep them; LibTorch's product brings them
/// into an order of its own at each call, which costs much where x has few rows. The bits of a row of the result depend
/// on that row and the weights alone, not on the other rows or on threads.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/large_pages.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/kernels/cpu/vectors.hpp"
#include "ip2p/kernels/cpu/weight_order.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p::detail::cpu {

inline constexpr std::int64_t linear_rows = 256;      ///< Rows that are multiplied together, at most.
inline constexpr std::int64_t linear_channels = 192;  ///< Output channels of them; with gates, half as many.

/// Some output channels of some rows of a product.
struct LinearPart {
  const float* x;          ///< [rows, depth], without gaps.
  const float* weight;     ///< [channels / 16, depth, 16], as `linear_weight` leaves them.
  const float* gate;       ///< Weights of the gates, laid out as the others, or null for none.
  const float* bias;       ///< [channels] or null.
  const float* gate_bias;  ///< As `bias`.
  const float* residual;   ///< Laid out as y, or null.
  float* y;                ///< [rows, channels], rows `y_row` numbers apart.
  std::int64_t rows;       ///< At most `linear_rows`.
  std::int64_t channels;   ///< At most `linear_channels`, half of that with gates.
  std::int64_t depth;      ///< At least 16.
  std::int64_t y_row;
  std::optional<Activation> activation{};  ///< Of a result without gates and residual.
  bool is_first = false;                   ///< Whether these weights have not been read before.
  const float* next_weight = nullptr;      ///< Where the weights begin that are read after these; null for none.
};

/// The passes over registers at one level of instructions.
struct LinearPasses {
  /// Brings rows [count, depth] of a weight, at most 16, at least 16 deep, into the order [depth, 16].
  void (*order)(const float* weight, std::int64_t count, std::int64_t depth, float* to);
  /// Computes a part. \param scratch of `linear_rows` * `linear_channels` numbers
  void (*compute)(const LinearPart& part, float* scratch);
};

/// The passes at `level`, which the processor must have.
const LinearPasses& linear_passes(CpuLevel level);

}  // namespace ip2p::detail::cpu

#if !defined(IP2P_COMPILED) || defined(IP2P_KERNEL_DEFINITIONS)
/// The passes, compiled for every level below; undefined again there.
#define IP2P_BODY "ip2p/kernels/cpu/linear.inc"
#include "ip2p/kernels/cpu/each_level.inc"

namespace ip2p::detail::cpu {
IP2P_KERNEL_TABLE const LinearPasses& linear_passes(CpuLevel level) {  // NOLINT(misc-definitions-in-headers)
  return at_cpu_level(level, baseline::linear::passes, avx2::linear::passes, avx512::linear::passes);
}
}  // namespace ip2p::detail::cpu
#endif

namespace ip2p::detail::cpu {

/// Whether `blocked_linear` reads a plain weight [out, in]: its shape, layout and dtype.
inline bool is_blocked_linear_weight(const at::Tensor& weight) {
  return weight.is_cpu() && weight.layout() == at::kStrided && weight.scalar_type() == at::kFloat &&
         weight.is_contiguous() && weight.dim() == 2 && weight.size(0) >= 16 && weight.size(1) >= 16;
}

/// Output channels of a weight, plain or in the order of `linear_weight`.
inline std::int64_t linear_out(const at::Tensor& weight) {
  return is_linear_weight(weight) ? weight.size(0) * weight_line : weight.size(0);
}

/// Whether `blocked_linear` takes these arguments: their shapes, strides and dtypes. `bias` and `residual` may be
/// undefined.
inline bool fits_blocked_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                const at::Tensor& residual = {}) {
  const auto plain = [](const at::Tensor& t) {
    return t.is_cpu() && t.layout() == at::kStrided && t.scalar_type() == at::kFloat;
  };
  if (!(is_linear_weight(weight) || is_blocked_linear_weight(weight)) || !plain(x) || x.dim() < 2 || x.numel() == 0 ||
      x.size(-1) != weight.size(1)) {
    return false;
  }
  const auto out = linear_out(weight);
  if (bias.defined() && (!plain(bias) || bias.dim() != 1 || bias.size(0) != out)) return false;
  if (!residual.defined()) return true;
  return plain(residual) && residual.dim() == x.dim() && residual.size(-1) == out &&
         residual.sizes().slice(0, residual.sizes().size() - 1) == x.sizes().slice(0, x.sizes().size() - 1);
}

/// Brings a plain weight [out, in] that `is_blocked_linear_weight` into the order [lines, in, 16], the last line filled
/// with copies. \param to of as many numbers
inline void order_weight(const at::Tensor& weight, const LinearPasses& passes, float* to) {
  const auto out = weight.size(0), in = weight.size(1), lines = (out + weight_line - 1) / weight_line;
  const auto* from = weight.const_data_ptr<float>();
  in_threads(lines, 1, [&](std::int64_t begin, std::int64_t end) {
    for (auto line = begin; line < end; ++line) {
      const auto first = line * weight_line;
      passes.order(from + first * in, std::min(weight_line, out - first), in, to + first * in);
    }
  });
}

/// `weight` [out, in] or [out, in, 1, 1] in the order that `blocked_linear` reads, [out / 16, in, 1, 16] or
/// [out / 16, in, 1, 1, 16].
/// \param weight as a matrix, one that `is_blocked_linear_weight`; its `out` is a multiple of 16
inline at::Tensor linear_weight(const at::Tensor& weight) {
  const auto lines = weight.size(0) / weight_line, in = weight.size(1);
  auto sizes = weight.dim() == 2 ? std::vector<std::int64_t>{lines, in, 1, weight_line}
                                 : std::vector<std::int64_t>{lines, in, 1, 1, weight_line};
  auto ordered = at::empty(sizes, weight.options().requires_grad(false));
  auto* to = ordered.mutable_data_ptr<float>();
  ask_for_large_pages(to, ordered.nbytes());
  order_weight(weight.flatten(1), linear_passes(cpu_level()), to);
  return ordered;
}

/// Rows and output channels of a product.
struct LinearRange {
  std::int64_t first_row, last_row, first_channel, last_channel;
};

/// Computes a range of a product: each block of weights, which stays in the cache, with all rows.
/// \param all of the whole product
inline void compute_linear(const LinearPasses& passes, const LinearPart& all, const LinearRange& range,
                           float* scratch) {
  const bool gated = all.gate != nullptr;
  // Blocks of whole groups of registers at any level; narrow ones of deep weights, to stay in the second cache.
  constexpr std::int64_t unit = 48, numbers = 192 * 1024;
  const auto most = std::clamp(numbers / all.depth / unit, std::int64_t{1}, linear_channels / unit);
  const auto channels = range.last_channel - range.first_channel, units = (channels + unit - 1) / unit;
  const auto units_at_once = std::max<std::int64_t>(gated ? most / 2 : most, 1);
  const auto blocks = (units + units_at_once - 1) / units_at_once;
  const auto rows = range.last_row - range.first_row, row_blocks = (rows + linear_rows - 1) / linear_rows;
  const auto each = ((rows + row_blocks - 1) / row_blocks + 7) / 8 * 8;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const auto begin = range.first_channel + b * units / blocks * unit;
    const auto end = std::min(range.last_channel, range.first_channel + (b + 1) * units / blocks * unit);
    auto part = all;
    part.channels = end - begin;
    part.weight += begin * all.depth;
    if (gated) part.gate += begin * all.depth;
    if (part.bias != nullptr) part.bias += begin;
    if (part.gate_bias != nullptr) part.gate_bias += begin;
    for (auto row = range.first_row; row < range.last_row; row += each) {
      const auto place = row * all.y_row + begin;
      part.x = all.x + row * all.depth;
      part.residual = all.residual == nullptr ? nullptr : all.residual + place;
      part.y = all.y + place;
      part.rows = std::min(each, range.last_row - row);
      part.is_first = row == range.first_row;
      part.next_weight = b + 1 < blocks && row + each >= range.last_row ? all.weight + end * all.depth : nullptr;
      passes.compute(part, scratch);
    }
  }
}

/// y = x W^T + b + residual, or a * gelu(g) + residual with [a, g] = x W^T + b, or activation(x W^T + b), by the vector
/// code of a level.
/// \param x [..., in]  \param weight [out, in], plain or in the order of `linear_weight`  \param bias [out] or
/// undefined \param residual of the result's shape, or undefined; all as `fits_blocked_linear` has them \param gated
/// whether the second half of the output channels are gates; `out` is even then, and a multiple of 32 if
///   the weight is in order
/// \param level one that the processor has  \param activation of a result without gates and residual
/// \return [..., out] or [..., out / 2], contiguous
inline at::Tensor blocked_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& residual = {}, bool gated = false, CpuLevel level = cpu_level(),
                                 std::optional<Activation> activation = {}) {
  const auto& passes = linear_passes(level);
  const auto in = weight.size(1), rows = x.numel() / in;
  const auto out = linear_out(weight) / (gated ? 2 : 1);
  const auto input = x.contiguous();
  const auto added = bias.defined() ? bias.contiguous() : bias;
  const auto other = residual.defined() ? residual.contiguous() : residual;
  auto shape = x.sizes().vec();
  shape.back() = out;
  auto result = at::empty(shape, x.options());
  // Where gates begin: after the other channels' last line.
  const auto gates = (out + weight_line - 1) / weight_line * weight_line * in;
  at::Tensor values = weight;
  if (!is_linear_weight(weight)) {
    values = at::empty({(gated ? 2 : 1) * gates}, x.options());
    auto* to = values.mutable_data_ptr<float>();
    order_weight(weight.narrow(0, 0, out), passes, to);
    if (gated) order_weight(weight.narrow(0, out, out), passes, to + gates);
  }
  LinearPart all{};
  all.x = input.const_data_ptr<float>();
  all.weight = values.const_data_ptr<float>();
  all.bias = added.defined() ? added.const_data_ptr<float>() : nullptr;
  if (gated) {
    all.gate = all.weight + gates;
    all.gate_bias = added.defined() ? all.bias + out : nullptr;
  }
  all.residual = other.defined() ? other.const_data_ptr<float>() : nullptr;
  all.y = result.mutable_data_ptr<float>();
  all.depth = in;
  all.y_row = out;
  all.activation = activation;
  // Each thread has its share of what is larger, and reads all of the other.
  const bool by_rows = weight.numel() < rows * (in + out);
  const auto each = by_rows ? std::int64_t{8} : weight_line, count = by_rows ? rows : out;
  in_threads((count + each - 1) / each, 1, [&](std::int64_t begin, std::int64_t end) {
    const auto scratch = at::empty({linear_rows * linear_channels}, x.options());
    const auto first = begin * each, last = std::min(count, end * each);
    compute_linear(passes, all, by_rows ? LinearRange{first, last, 0, out} : LinearRange{0, rows, first, last},
                   scratch.mutable_data_ptr<float>());
  });
  return result;
}

/// Whether the vector code is to compute layers with this plain weight [out, in] for inputs of `dtype`: compiled with
/// optimisation, with fused multiply-add, and autocast does not ask for LibTorch's operator. It does not depend on the
/// number of rows.
inline bool wants_blocked_linear(at::ScalarType dtype, const at::Tensor& weight) {
  return vector_code_is_optimised && cpu_level() != CpuLevel::baseline && dtype == at::kFloat &&
         is_blocked_linear_weight(weight) && !at::autocast::is_autocast_enabled(at::kCPU);
}

/// Whether the vector code computes this layer: for a plain weight, enough rows to be faster than LibTorch, and no
/// graph to record.
inline bool takes_blocked_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& residual = {}) {
  constexpr std::int64_t least = 4;
  const bool wanted = is_linear_weight(weight)
                          ? !at::autocast::is_autocast_enabled(at::kCPU)
                          : wants_blocked_linear(x.scalar_type(), weight) && x.numel() >= least * x.size(-1);
  return wanted && fits_blocked_linear(x, weight, bias, residual) && !records_graph(x, weight, bias, residual);
}

/// The weight [out, in] for LibTorch's operators: itself, or a plain copy.
inline at::Tensor matrix(const at::Tensor& weight) {
  return is_linear_weight(weight) ? plain_weight(weight).flatten(1) : weight;
}

/// `Kernels::linear`.
inline at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& residual) {
  return takes_blocked_linear(x, weight, bias, residual) ? blocked_linear(x, weight, bias, residual)
                                                         : libtorch::linear(x, matrix(weight), bias, residual);
}

/// `Kernels::linear_activated`.
inline at::Tensor linear_activated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                   Activation activation) {
  return takes_blocked_linear(x, weight, bias) ? blocked_linear(x, weight, bias, {}, false, cpu_level(), activation)
                                               : libtorch::linear_activated(x, matrix(weight), bias, activation);
}

/// `Kernels::linear_geglu`.
inline at::Tensor linear_geglu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  // With fewer output channels a half has none that fill a register.
  const auto out = linear_out(weight);
  if (!takes_blocked_linear(x, weight, bias) || out < 32 || out % (is_linear_weight(weight) ? 32 : 2) != 0) return {};
  return blocked_linear(x, weight, bias, {}, true);
}

}  // namespace ip2p::detail::cpu
