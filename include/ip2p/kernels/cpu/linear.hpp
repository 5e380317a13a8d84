#pragma once

/// \file
/// Linear layers on a CPU in fp32, without gradients: y = x W^T + b, with a residual to add or a gate to multiply by,
/// in blocks that stay in the caches.
///
/// LibTorch's product copies the weights into an order of its own at each call, which costs much where x has few rows.
/// Here x alone is reordered, or where it has many rows, the weights alone. The bits of a row of the result depend on
/// that row and the weights alone, not on the other rows or on threads.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/kernels/cpu/vectors.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p::detail::cpu {

inline constexpr std::int64_t linear_rows = 192;  ///< Rows that are packed together; whole registers.
inline constexpr std::int64_t linear_width = 64;  ///< Rows of the other factor that are multiplied with them.

/// Some output channels of some rows of a product. Packed are rows of x, the other factor are rows of weights; or where
/// weights are packed, it is the other way round, as in brackets.
struct LinearPart {
  const float* packed;     ///< The rows as `LinearPasses::pack` leaves them.
  const float* weight;     ///< [width, depth], without gaps. [rows of x]
  const float* bias;       ///< [width] or null. [of `rows`]
  const float* gate;       ///< Weights of the gates [width, depth], or null for none. [packed]
  const float* gate_bias;  ///< As `bias`.
  const float* residual;   ///< Laid out as y, or null.
  float* y;                ///< [rows, width], rows `y_row` numbers apart. [width, rows]
  std::int64_t rows;       ///< At most `linear_rows`. [half of that with gates]
  std::int64_t width;      ///< At most `linear_width`, half of that with gates. [`linear_width`]
  std::int64_t depth;      ///< At least 16.
  std::int64_t y_row;
  std::optional<Activation> activation{};  ///< Of a result without gates and residual.
};

/// The passes over registers at one level of instructions.
struct LinearPasses {
  /// Reorders channels `begin` to `end`, at least 16, of rows [rows, depth], `row` numbers apart, at most
  /// `linear_rows`. \param to of `linear_rows` * depth numbers, for all channels
  void (*pack)(const float* x, std::int64_t row, std::int64_t rows, std::int64_t depth, std::int64_t begin,
               std::int64_t end, float* to);
  /// Computes a part. \param scratch of `linear_rows` * `linear_width` numbers
  void (*compute)(const LinearPart& part, float* scratch);
  /// Computes a part whose weights are packed.
  void (*compute_rows)(const LinearPart& part, float* scratch);
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

/// Whether `blocked_linear` reads a weight [out, in]: its shape, layout and dtype.
inline bool is_blocked_linear_weight(const at::Tensor& weight) {
  return weight.is_cpu() && weight.layout() == at::kStrided && weight.scalar_type() == at::kFloat &&
         weight.is_contiguous() && weight.dim() == 2 && weight.size(0) >= 16 && weight.size(1) >= 16;
}

/// Whether `blocked_linear` takes these arguments: their shapes, strides and dtypes. `bias` and `residual` may be
/// undefined.
inline bool fits_blocked_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                const at::Tensor& residual = {}) {
  const auto plain = [](const at::Tensor& t) {
    return t.is_cpu() && t.layout() == at::kStrided && t.scalar_type() == at::kFloat;
  };
  if (!is_blocked_linear_weight(weight) || !plain(x) || x.dim() < 2 || x.numel() == 0 || x.size(-1) != weight.size(1)) {
    return false;
  }
  if (bias.defined() && (!plain(bias) || bias.dim() != 1 || bias.size(0) != weight.size(0))) return false;
  if (!residual.defined()) return true;
  return plain(residual) && residual.dim() == x.dim() && residual.size(-1) == weight.size(0) &&
         residual.sizes().slice(0, residual.sizes().size() - 1) == x.sizes().slice(0, x.sizes().size() - 1);
}

/// A product as its passes see it, and how it is divided.
struct LinearRun {
  const LinearPasses& passes;
  LinearPart all;             ///< Of the whole product; `packed` is not set.
  const float* x;             ///< [rows, depth]
  std::int64_t rows, out;     ///< Of x and, without gates, of the weights.
  at::TensorOptions options;  ///< Of scratch memory.

  [[nodiscard]] at::Tensor scratch() const { return at::empty({linear_rows * linear_width}, options); }

  /// Packs x, in so many blocks at once that each thread has several parts to do.
  void with_packed_x() const {
    const auto width = all.gate == nullptr ? linear_width : linear_width / 2;
    const auto widths = (out + width - 1) / width;
    // Blocks as equal as whole registers allow.
    const auto most = (rows + linear_rows - 1) / linear_rows;
    const auto block = ((rows + most - 1) / most + 15) / 16 * 16;
    const auto blocks = (rows + block - 1) / block, in = all.depth;
    const auto threads = std::int64_t{at::get_num_threads()};
    const auto at_once = std::clamp<std::int64_t>((4 * threads + widths - 1) / widths, 1, blocks);
    const auto packed = at::empty({at_once, block * in}, options);
    float* const pack_to = packed.mutable_data_ptr<float>();
    // Few blocks are packed in slices of channels, so that no thread waits.
    constexpr std::int64_t narrowest = 128;
    const auto slices = at_once < threads ? std::clamp<std::int64_t>(in / narrowest, 1, threads) : 1;
    const auto slice = in / slices / 16 * 16;
    for (std::int64_t first = 0; first < blocks; first += at_once) {
      const auto count = std::min(at_once, blocks - first);
      const auto rows_of = [&](std::int64_t b) { return std::min(block, rows - (first + b) * block); };
      in_threads(count * slices, 1, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = begin; i < end; ++i) {
          const auto b = i / slices, s = i % slices;
          passes.pack(x + (first + b) * block * in, in, rows_of(b), in, s * slice,
                      s + 1 < slices ? (s + 1) * slice : in, pack_to + b * block * in);
        }
      });
      in_threads(count * widths, 1, [&](std::int64_t begin, std::int64_t end) {
        const auto own = scratch();
        for (auto i = begin; i < end; ++i) {
          const auto b = i % count;
          const auto column = i / count * width;
          const auto place = (first + b) * block * out + column;
          auto part = all;
          part.packed = pack_to + b * block * in;
          part.weight += column * in;
          if (part.bias != nullptr) part.bias += column;
          if (part.gate != nullptr) part.gate += column * in;
          if (part.gate_bias != nullptr) part.gate_bias += column;
          if (part.residual != nullptr) part.residual += place;
          part.y += place;
          part.rows = rows_of(b);
          part.width = std::min(width, out - column);
          passes.compute(part, own.mutable_data_ptr<float>());
        }
      });
    }
  }

  /// Packs the weights, all at once. Each thread takes its share of x through the blocks of weights, one of which stays
  /// in its cache.
  void with_packed_weights() const {
    const bool gated = all.gate != nullptr;
    const auto block = gated ? linear_rows / 2 : linear_rows, blocks = (out + block - 1) / block, in = all.depth;
    const auto packed = at::empty({gated ? 2 : 1, blocks * block * in}, options);
    float* const pack_to = packed.mutable_data_ptr<float>();
    float* const gates_to = pack_to + blocks * block * in;
    const auto channels_of = [&](std::int64_t b) { return std::min(block, out - b * block); };
    in_threads(blocks, 1, [&](std::int64_t begin, std::int64_t end) {
      for (auto b = begin; b < end; ++b) {
        const auto place = b * block * in;
        passes.pack(all.weight + place, in, channels_of(b), in, 0, in, pack_to + place);
        if (gated) passes.pack(all.gate + place, in, channels_of(b), in, 0, in, gates_to + place);
      }
    });
    constexpr std::int64_t together = 8;  // rows of x that are multiplied at once
    in_threads((rows + together - 1) / together, 1, [&](std::int64_t begin, std::int64_t end) {
      const auto own = scratch();
      const auto last = std::min(rows, end * together);
      for (std::int64_t b = 0; b < blocks; ++b) {
        auto part = all;
        part.packed = pack_to + b * block * in;
        if (gated) part.gate = gates_to + b * block * in;
        if (part.bias != nullptr) part.bias += b * block;
        if (part.gate_bias != nullptr) part.gate_bias += b * block;
        part.rows = channels_of(b);
        for (auto row = begin * together; row < last; row += linear_width) {
          const auto place = row * out + b * block;
          part.weight = x + row * in;
          part.residual = all.residual == nullptr ? nullptr : all.residual + place;
          part.y = all.y + place;
          part.width = std::min(linear_width, last - row);
          passes.compute_rows(part, own.mutable_data_ptr<float>());
        }
      }
    });
  }
};

/// y = x W^T + b + residual, or a * gelu(g) + residual with [a, g] = x W^T + b, or activation(x W^T + b), by the vector
/// code of a level.
/// \param x [..., in]  \param weight [out, in]  \param bias [out] or undefined
/// \param residual of the result's shape, or undefined; all as `fits_blocked_linear` has them
/// \param gated whether the second half of the output channels are gates; `out` is even then
/// \param level one that the processor has  \param activation of a result without gates and residual
/// \return [..., out] or [..., out / 2], contiguous
inline at::Tensor blocked_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& residual = {}, bool gated = false, CpuLevel level = cpu_level(),
                                 std::optional<Activation> activation = {}) {
  const auto in = weight.size(1);
  const auto out = gated ? weight.size(0) / 2 : weight.size(0);
  const auto input = x.contiguous();
  const auto added = bias.defined() ? bias.contiguous() : bias;
  const auto other = residual.defined() ? residual.contiguous() : residual;
  auto shape = x.sizes().vec();
  shape.back() = out;
  auto result = at::empty(shape, x.options());
  LinearPart all{};
  all.weight = weight.const_data_ptr<float>();
  all.bias = added.defined() ? added.const_data_ptr<float>() : nullptr;
  if (gated) {
    all.gate = all.weight + out * in;
    all.gate_bias = added.defined() ? all.bias + out : nullptr;
  }
  all.residual = other.defined() ? other.const_data_ptr<float>() : nullptr;
  all.y = result.mutable_data_ptr<float>();
  all.depth = in;
  all.y_row = out;
  all.activation = activation;
  const auto rows = x.numel() / in;
  const LinearRun run{linear_passes(level), all, input.const_data_ptr<float>(), rows, out, x.options()};
  // Packing x, its rows are reordered, and so are the results; packing weights, only those.
  if (weight.numel() < rows * (in + out)) {
    run.with_packed_weights();
  } else {
    run.with_packed_x();
  }
  return result;
}

/// Whether the vector code is to compute layers with this weight [out, in] for inputs of `dtype`: compiled with
/// optimisation, with fused multiply-add, and autocast does not ask for LibTorch's operator. It does not depend on the
/// number of rows.
inline bool wants_blocked_linear(at::ScalarType dtype, const at::Tensor& weight) {
  return vector_code_is_optimised && cpu_level() != CpuLevel::baseline && dtype == at::kFloat &&
         is_blocked_linear_weight(weight) && !at::autocast::is_autocast_enabled(at::kCPU);
}

/// Whether the vector code computes this layer: enough rows to be faster than LibTorch, and no graph to record.
inline bool takes_blocked_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 const at::Tensor& residual = {}) {
  constexpr std::int64_t least = 4;
  return wants_blocked_linear(x.scalar_type(), weight) && fits_blocked_linear(x, weight, bias, residual) &&
         x.numel() >= least * x.size(-1) && !records_graph(x, weight, bias, residual);
}

/// `Kernels::linear`.
inline at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& residual) {
  return takes_blocked_linear(x, weight, bias, residual) ? blocked_linear(x, weight, bias, residual)
                                                         : libtorch::linear(x, weight, bias, residual);
}

/// `Kernels::linear_activated`.
inline at::Tensor linear_activated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                   Activation activation) {
  return takes_blocked_linear(x, weight, bias) ? blocked_linear(x, weight, bias, {}, false, cpu_level(), activation)
                                               : libtorch::linear_activated(x, weight, bias, activation);
}

/// `Kernels::linear_geglu`.
inline at::Tensor linear_geglu(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  // With fewer output channels a half has none that fill a register.
  if (!takes_blocked_linear(x, weight, bias) || weight.size(0) < 32 || weight.size(0) % 2 != 0) return {};
  return blocked_linear(x, weight, bias, {}, true);
}

}  // namespace ip2p::detail::cpu
