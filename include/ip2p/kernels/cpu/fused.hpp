#pragma once

/// \file
/// The fused operators on a CPU: fp32 and bf16, channels-last maps and contiguous rows, without gradients. Everything
/// else is left to LibTorch's operators.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/arithmetic.hpp"
#include "ip2p/kernels/cpu/attention.hpp"
#include "ip2p/kernels/cpu/elements.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/linear.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/kernels/cpu/vectors.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p::detail::cpu {

/// The passes over memory at one level of instructions, for elements of one type.
template <class Element>
struct Passes {
  /// For each channel of x [rows, channels], adds the deviations from `shift` to `sums` and their squares to `squares`.
  void (*channel_sums)(const Element* x, std::int64_t rows, std::int64_t channels, const float* shift, float* sums,
                       float* squares);
  /// y = act(x * scale + shift) for x [rows, channels] and a scale and shift of each channel; act is silu or nothing.
  void (*normalise)(const Element* x, Element* y, std::int64_t rows, std::int64_t channels, const float* scale,
                    const float* shift, bool silu);
  /// y [rows, hidden] = a * gelu(b) for [a, b] = projected [rows, 2 * hidden] + bias [2 * hidden] or null.
  void (*geglu)(const Element* projected, Element* y, std::int64_t rows, std::int64_t hidden, const float* bias);
  /// sum = x + residual and its layer norm y, all [rows, channels].
  void (*add_layer_norm)(const Element* x, const Element* residual, Element* sum, Element* y, std::int64_t rows,
                         std::int64_t channels, const float* weight, const float* bias, float eps);
};

/// The passes of `level`, which the processor must have.
template <class Element>
const Passes<Element>& passes_at(CpuLevel level);

}  // namespace ip2p::detail::cpu

#if !defined(IP2P_COMPILED) || defined(IP2P_KERNEL_DEFINITIONS)
/// The passes, compiled for every level below; undefined again there.
#define IP2P_BODY "ip2p/kernels/cpu/fused.inc"
#include "ip2p/kernels/cpu/each_level.inc"

namespace ip2p::detail::cpu {
template <class Element>
const Passes<Element>& passes_at(CpuLevel level) {
  return at_cpu_level(level, baseline::passes<Element>, avx2::passes<Element>, avx512::passes<Element>);
}
}  // namespace ip2p::detail::cpu
#else
namespace ip2p::detail::cpu {
extern template const Passes<float>& passes_at(CpuLevel level);
extern template const Passes<Bf16>& passes_at(CpuLevel level);
}  // namespace ip2p::detail::cpu
#endif

namespace ip2p::detail::cpu {

/// Elements of a thread, at the least: fewer are done in less time than it takes to wake a thread.
inline constexpr std::int64_t elements_of_thread = 32768;

/// Whether the vector code takes x: its dtype, and neither autocast nor a graph that asks for LibTorch's operators.
template <class... Others>
bool takes(const at::Tensor& x, const Others&... others) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) && x.numel() > 0 &&
         !records_graph(x, others...) && !at::autocast::is_autocast_enabled(at::kCPU);
}

/// `parameter` in fp32 without gaps; undefined stays undefined.
inline at::Tensor wide(const at::Tensor& parameter) {
  return parameter.defined() ? parameter.detach().to(at::kFloat).contiguous() : parameter;
}

/// The elements of a tensor.
template <class Element>
const Element* elements(const at::Tensor& tensor) {
  return static_cast<const Element*>(tensor.const_data_ptr());
}

/// The elements of a tensor, to be written.
template <class Element>
Element* mutable_elements(const at::Tensor& tensor) {
  return static_cast<Element*>(tensor.mutable_data_ptr());
}

/// A group norm over channels-last memory in two passes: sums of each channel, then the result. Pieces of pixels are
/// the tasks of threads; the second pass takes a thread's pieces in reverse, because the last ones are still in its
/// cache.
template <class Element>
class GroupNormRun {
 public:
  /// \param x [B,C,h,w], channels-last, not empty
  GroupNormRun(const at::Tensor& x, std::int64_t groups, double eps)
      : x_(elements<Element>(x)),
        batch_(x.size(0)),
        channels_(x.size(1)),
        pixels_(x.size(2) * x.size(3)),
        // Sums of so few numbers are precise in fp32.
        rows_(std::clamp<std::int64_t>(elements_of_thread / channels_, 16, 256)),
        pieces_((pixels_ + rows_ - 1) / rows_),
        groups_(groups),
        eps_(eps) {}

  /// \param add [B or 1,C] or undefined  \param weight, bias [C]; all fp32  \param y in the layout of x
  void run(const at::Tensor& add, const at::Tensor& weight, const at::Tensor& bias, bool silu, Element* y) {
    const auto& passes = passes_at<Element>(cpu_level());
    // Deviations from a sample's first pixel, so that a large mean costs no precision.
    first_.resize(static_cast<std::size_t>(batch_ * channels_));
    for (std::int64_t b = 0; b < batch_; ++b) {
      for (std::int64_t c = 0; c < channels_; ++c) first_[place(b, c)] = number(x_ + b * pixels_ * channels_ + c);
    }
    sums_.assign(static_cast<std::size_t>(batch_ * pieces_ * 2 * channels_), 0.0F);
    const auto tasks = batch_ * pieces_;
    const auto at_least = std::max<std::int64_t>(1, elements_of_thread / (rows_ * channels_));
    in_threads(tasks, at_least, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t task = from; task < to; ++task) {
        float* sums = sums_.data() + task * 2 * channels_;
        passes.channel_sums(x_ + offset(task), rows_of(task), channels_, first_.data() + place(task / pieces_, 0), sums,
                            sums + channels_);
      }
    });
    find_scales(add, elements<float>(weight), elements<float>(bias));
    in_threads(tasks, at_least, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t task = to - 1; task >= from; --task) {
        const auto sample = place(task / pieces_, 0);
        passes.normalise(x_ + offset(task), y + offset(task), rows_of(task), channels_, scale_.data() + sample,
                         shift_.data() + sample, silu);
      }
    });
  }

 private:
  [[nodiscard]] std::size_t place(std::int64_t b, std::int64_t c) const {
    return static_cast<std::size_t>(b * channels_ + c);
  }

  [[nodiscard]] std::int64_t offset(std::int64_t task) const {
    return (task / pieces_ * pixels_ + task % pieces_ * rows_) * channels_;
  }

  [[nodiscard]] std::int64_t rows_of(std::int64_t task) const {
    return std::min(rows_, pixels_ - task % pieces_ * rows_);
  }

  /// Each channel's scale and shift, from the sums of all pieces; in double, as there are few.
  void find_scales(const at::Tensor& add, const float* weight, const float* bias) {
    scale_.resize(first_.size());
    shift_.resize(first_.size());
    const auto width = channels_ / groups_;
    const auto pixels = static_cast<double>(pixels_);
    std::vector<double> means(static_cast<std::size_t>(width));
    for (std::int64_t b = 0; b < batch_; ++b) {
      const float* added = add.defined() ? elements<float>(add) + (add.size(0) == 1 ? 0 : b) * channels_ : nullptr;
      for (std::int64_t g = 0; g < groups_; ++g) {
        double mean = 0.0;
        double m2 = 0.0;
        for (std::int64_t i = 0; i < width; ++i) {
          const auto c = g * width + i;
          const auto [sum, squares] = totals(b, c);
          auto& own = means[static_cast<std::size_t>(i)];
          own = first_[place(b, c)] + sum / pixels + (added != nullptr ? added[c] : 0.0F);
          m2 += squares - sum * sum / pixels;
          mean += (own - mean) / static_cast<double>(i + 1);
        }
        for (const double own : means) m2 += (own - mean) * (own - mean) * pixels;
        const double variance = std::max(m2, 0.0) / (pixels * static_cast<double>(width));
        const double inverse = 1.0 / std::sqrt(variance + eps_);
        for (std::int64_t i = 0; i < width; ++i) {
          const auto c = g * width + i;
          const double scale = inverse * weight[c];
          scale_[place(b, c)] = static_cast<float>(scale);
          shift_[place(b, c)] = static_cast<float>(((added != nullptr ? added[c] : 0.0F) - mean) * scale + bias[c]);
        }
      }
    }
  }

  /// A channel's sum of deviations and of their squares over all pieces.
  [[nodiscard]] std::pair<double, double> totals(std::int64_t b, std::int64_t c) const {
    double sum = 0.0;
    double squares = 0.0;
    for (std::int64_t piece = 0; piece < pieces_; ++piece) {
      const float* sums = sums_.data() + (b * pieces_ + piece) * 2 * channels_ + c;
      sum += sums[0];
      squares += sums[channels_];
    }
    return {sum, squares};
  }

  const Element* x_;
  std::int64_t batch_, channels_, pixels_, rows_, pieces_, groups_;
  double eps_;
  std::vector<float> first_, sums_, scale_, shift_;
};

/// Calls `work` with a value of the type of x's elements.
template <class Work>
void with_element(const at::Tensor& x, const Work& work) {
  if (x.scalar_type() == at::kFloat) {
    work(float{});
  } else {
    work(Bf16{});
  }
}

/// `Kernels::group_norm_silu`.
inline at::Tensor group_norm_silu(const at::Tensor& x, const at::Tensor& add, const at::Tensor& weight,
                                  const at::Tensor& bias, std::int64_t groups, double eps, bool silu) {
  if (x.dim() != 4 || !takes(x, add, weight, bias) || !x.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    return libtorch::group_norm_silu(x, add, weight, bias, groups, eps, silu);
  }
  auto y = at::empty_like(x);
  with_element(x, [&](auto element) {
    using Element = decltype(element);
    GroupNormRun<Element>(x, groups, eps).run(wide(add), wide(weight), wide(bias), silu, mutable_elements<Element>(y));
  });
  return y;
}

/// `Kernels::geglu`.
inline at::Tensor geglu(const at::Tensor& projected, const at::Tensor& bias) {
  if (projected.dim() == 0 || !takes(projected, bias) || !projected.is_contiguous() || projected.size(-1) % 2 != 0) {
    return libtorch::geglu(projected, bias);
  }
  auto sizes = projected.sizes().vec();
  const auto hidden = sizes.back() /= 2;
  auto y = at::empty(sizes, projected.options());
  const auto added = wide(bias);
  with_element(projected, [&](auto element) {
    using Element = decltype(element);
    const auto* from = elements<Element>(projected);
    auto* to = mutable_elements<Element>(y);
    const float* offsets = added.defined() ? elements<float>(added) : nullptr;
    const auto& passes = passes_at<Element>(cpu_level());
    in_threads(y.numel() / hidden, elements_of_thread / hidden + 1, [&](std::int64_t first, std::int64_t last) {
      passes.geglu(from + first * 2 * hidden, to + first * hidden, last - first, hidden, offsets);
    });
  });
  return y;
}

/// `Kernels::add_layer_norm`.
inline SumAndNorm add_layer_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                                 const at::Tensor& bias, double eps) {
  if (!takes(x, residual, weight, bias) || !x.is_contiguous() || !residual.is_contiguous() ||
      residual.sizes() != x.sizes() || residual.scalar_type() != x.scalar_type()) {
    return libtorch::add_layer_norm(x, residual, weight, bias, eps);
  }
  SumAndNorm result{at::empty_like(x), at::empty_like(x)};
  const auto scale = wide(weight);
  const auto shift = wide(bias);
  const auto channels = x.size(-1);
  with_element(x, [&](auto element) {
    using Element = decltype(element);
    const auto* from = elements<Element>(x);
    const auto* other = elements<Element>(residual);
    auto* sum = mutable_elements<Element>(result.sum);
    auto* normed = mutable_elements<Element>(result.normed);
    const auto& passes = passes_at<Element>(cpu_level());
    in_threads(x.numel() / channels, elements_of_thread / channels + 1, [&](std::int64_t first, std::int64_t last) {
      const auto skipped = first * channels;
      passes.add_layer_norm(from + skipped, other + skipped, sum + skipped, normed + skipped, last - first, channels,
                            elements<float>(scale), elements<float>(shift), static_cast<float>(eps));
    });
  });
  return result;
}

}  // namespace ip2p::detail::cpu

namespace ip2p {

/// The CPU's table: vector code for what is computed in fewer passes by it, LibTorch's operators for the rest.
inline const Kernels& cpu_kernels() {
  static const Kernels table = [] {
    auto entries = libtorch_kernels();
    entries.group_norm_silu = detail::cpu::group_norm_silu;
    entries.geglu = detail::cpu::geglu;
    entries.add_layer_norm = detail::cpu::add_layer_norm;
    entries.attention = detail::cpu::attention;
    entries.linear = detail::cpu::linear;
    entries.linear_activated = detail::cpu::linear_activated;
    entries.linear_geglu = detail::cpu::linear_geglu;
    return entries;
  }();
  return table;
}

}  // namespace ip2p
