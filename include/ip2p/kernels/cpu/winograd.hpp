#pragma once

/// \file
/// Convolutions of 3x3 by Winograd's minimal filtering, F(4x4, 3x3) and F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms
/// for Convolutional Neural Networks", 2016): fp32, channels-last, stride 1, without gradients.
///
/// A tile of 4x4 results takes 36 products for each pair of channels instead of 144. The same real numbers are
/// computed, rounded otherwise: the rms error is 2 to 4 times that of a direct sum.
///
/// Weights are transformed in the cache, at each call, from plain ones in the order of `winograd_weight`. That costs a
/// few percent of the products, while transformed weights would take four times the memory and the time to read it.
/// A result's bits depend on the map's size alone, not on batch, threads or blocks.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/int8.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/kernels/cpu/vectors.hpp"
#include "ip2p/kernels/cpu/weight_order.hpp"

namespace ip2p::detail::cpu {

inline constexpr std::int64_t winograd_depth = 64;  ///< Input channels that are multiplied together.
inline constexpr std::int64_t winograd_width = 32;  ///< Output channels that are computed together.
/// Numbers between the planes of transformed weights; a power of two would put all planes into the same cache lines.
inline constexpr std::int64_t winograd_weight_plane = winograd_depth * winograd_width + 16;

/// How weights lie in memory: numbers from an input channel to the next, from a tap to the next, and from 16 output
/// channels to the next 16.
struct WinogradSteps {
  std::int64_t in, tap, line;
};

/// The passes over registers at one level of instructions, for tiles of one size n; there are (n + 2)^2 points.
struct WinogradPasses {
  /// Transforms a tile's `channels` inputs at the (n + 2)^2 `pixels`. Channel c at point p goes to
  /// `to[(c / winograd_depth * points + p) * plane + c % winograd_depth]`.
  void (*spread_input)(const float* const* pixels, std::int64_t channels, std::int64_t plane, float* to);
  /// Transforms the weights of `depth` input and `width` output channels, further ones taken as zero, to planes of
  /// points [winograd_width / panel, winograd_depth, panel]. A kernel that is turned by half a circle has negative
  /// `steps.tap` and `weight` at its last tap.
  void (*spread_weight)(const float* weight, WinogradSteps steps, std::int64_t width, std::int64_t depth, float* to);
  /// m (+)= v u at one point, v [rows, winograd_depth] with `depth` columns in use, m [rows, winograd_width].
  /// `rows` is a multiple of 6.
  void (*multiply)(const float* v, const float* u, float* m, std::int64_t rows, std::int64_t depth, bool add);
  /// A tile's results from its products in m, `plane` apart: `height` x `width` of them at y, whose rows and pixels lie
  /// `row` and `pixel` numbers apart. `bias` has winograd_width numbers; `residual` is null or laid out as y.
  void (*gather_output)(const float* m, std::int64_t plane, const float* bias, const float* residual, float* y,
                        std::int64_t row, std::int64_t pixel, std::int64_t height, std::int64_t width,
                        std::int64_t channels);
};

/// The passes for tiles of side `tile`, 2 or 4, at `level`, which the processor must have.
template <std::int64_t tile>
const WinogradPasses& winograd_passes(CpuLevel level);

}  // namespace ip2p::detail::cpu

#if !defined(IP2P_COMPILED) || defined(IP2P_KERNEL_DEFINITIONS)
/// The passes, compiled for every level below; undefined again there.
#define IP2P_BODY "ip2p/kernels/cpu/winograd.inc"
#include "ip2p/kernels/cpu/each_level.inc"

namespace ip2p::detail::cpu {
template <std::int64_t tile>
const WinogradPasses& winograd_passes(CpuLevel level) {
  return at_cpu_level(level, baseline::winograd::passes<tile>, avx2::winograd::passes<tile>,
                      avx512::winograd::passes<tile>);
}
}  // namespace ip2p::detail::cpu
#else
namespace ip2p::detail::cpu {
extern template const WinogradPasses& winograd_passes<2>(CpuLevel level);
extern template const WinogradPasses& winograd_passes<4>(CpuLevel level);
}  // namespace ip2p::detail::cpu
#endif

namespace ip2p::detail::cpu {

/// The side of the tiles for results of `height` x `width`, 2 or 4: that which takes less time for three samples, the
/// branches of guidance. The actual batch is left out, so that a sample's bits do not depend on it.
inline std::int64_t winograd_tile(std::int64_t height, std::int64_t width) {
  const auto cost = [&](std::int64_t tile) {
    // At each point, a tile is a row of a product, in groups of 6. Transforming the weights takes as long as 8 rows.
    const auto tiles = 3 * ((height + tile - 1) / tile) * ((width + tile - 1) / tile);
    return ((tiles + 5) / 6 * 6 + 8) * (tile + 2) * (tile + 2);
  };
  return cost(2) <= cost(4) ? 2 : 4;
}

/// One convolution: its sizes, and its blocks of tiles one after the other.
template <int tile>
class WinogradRun {
 public:
  /// Arguments as those of `winograd`, without gaps; y is its result. \param turned by half a circle, as is the kernel
  WinogradRun(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& residual,
              std::int64_t padding, bool doubled, CpuLevel level, const at::Tensor& y,
              const at::Tensor& weight_scale = {}, bool turned = false)
      : passes_(winograd_passes<tile>(level)),
        widen_(int8_passes(level).widen),
        x_(x.const_data_ptr<float>()),
        weight_(weight_scale.defined() ? nullptr : weight.const_data_ptr<float>()),
        bytes_(weight_scale.defined() ? weight.const_data_ptr<std::int8_t>() : nullptr),
        weight_scale_(weight_scale.defined() ? weight_scale.const_data_ptr<float>() : nullptr),
        residual_(residual.defined() ? residual.const_data_ptr<float>() : nullptr),
        y_(y.mutable_data_ptr<float>()),
        in_(x.size(1)),
        out_(y.size(1)),
        steps_(turned ? WinogradSteps{9 * out_, -out_, weight_line}
                      : WinogradSteps{9 * weight_line, weight_line, 9 * weight_line * in_}),
        turned_(turned),
        stored_width_(x.size(3)),
        stored_pixels_(x.size(2) * x.size(3)),
        shift_(doubled ? 1 : 0),
        padding_(padding),
        in_height_(x.size(2) << shift_),
        in_width_(x.size(3) << shift_),
        out_height_(y.size(2)),
        out_width_(y.size(3)),
        tiles_down_((out_height_ + tile - 1) / tile),
        tiles_across_((out_width_ + tile - 1) / tile),
        tiles_(x.size(0) * tiles_down_ * tiles_across_),
        depths_((in_ + winograd_depth - 1) / winograd_depth),
        widths_((out_ + winograd_width - 1) / winograd_width),
        outside_(at::zeros({in_}, x.options())),
        bias_(at::zeros({widths_ * winograd_width}, x.options())) {
    if (turned) weight_ += 8 * out_;
    if (bias.defined()) std::copy_n(bias.const_data_ptr<float>(), out_, bias_.mutable_data_ptr<float>());
    // Blocks of tiles as equal as can be.
    const std::int64_t most = in_ > 1024 ? 48 : 96;
    const auto blocks = (tiles_ + most - 1) / most;
    block_ = ((tiles_ + blocks - 1) / blocks + 11) / 12 * 12;
    if (tiles_ <= 6) block_ = 6;
    plane_ = block_ * winograd_depth + 16;
    product_plane_ = block_ * winograd_width + 16;
  }

  void run() const {
    const auto blocks = (tiles_ + block_ - 1) / block_;
    // So many blocks at once that each thread has several parts to do.
    const auto threads = std::int64_t{at::get_num_threads()};
    const auto at_once = std::clamp<std::int64_t>((4 * threads + widths_ - 1) / widths_, 1, blocks);
    const auto spread = at::empty({at_once, depths_ * points * plane_}, bias_.options());
    float* v = spread.template mutable_data_ptr<float>();
    for (std::int64_t first = 0; first < blocks; first += at_once) {
      const auto count = std::min(at_once, blocks - first);
      in_threads(count * block_, 1, [&](std::int64_t from, std::int64_t to) {
        for (auto i = from; i < to; ++i) spread_input(first * block_ + i, v + place(i / block_), i % block_);
      });
      in_threads(count * widths_, 1, [&](std::int64_t from, std::int64_t to) { multiply(first, from, to, v, count); });
    }
  }

 private:
  static constexpr std::int64_t side = tile + 2, points = side * side;

  /// Where a block's transformed input begins.
  [[nodiscard]] std::int64_t place(std::int64_t block) const { return block * depths_ * points * plane_; }

  struct Corner {
    std::int64_t sample, top, left;
  };

  /// Where a tile's results begin.
  [[nodiscard]] Corner corner(std::int64_t number) const {
    const auto in_sample = number % (tiles_down_ * tiles_across_);
    return {number / (tiles_down_ * tiles_across_), in_sample / tiles_across_ * tile, in_sample % tiles_across_ * tile};
  }

  /// Transforms the input of tile `number` to row `row` of a block; tiles beyond the last are zero.
  void spread_input(std::int64_t number, float* v, std::int64_t row) const {
    std::array<const float*, points> pixels;
    pixels.fill(outside_.template const_data_ptr<float>());
    if (number < tiles_) {
      const auto [sample, top, left] = corner(number);
      for (std::int64_t i = 0; i < points; ++i) {
        const auto r = top + i / side - padding_;
        const auto c = left + i % side - padding_;
        if (r < 0 || r >= in_height_ || c < 0 || c >= in_width_) continue;
        const auto pixel = sample * stored_pixels_ + (r >> shift_) * stored_width_ + (c >> shift_);
        pixels[static_cast<std::size_t>(i)] = x_ + pixel * in_;
      }
    }
    passes_.spread_input(pixels.data(), in_, plane_, v + row * winograd_depth);
  }

  /// Input channels in the `d`th share of them.
  [[nodiscard]] std::int64_t depth_of(std::int64_t d) const {
    return std::min(winograd_depth, in_ - d * winograd_depth);
  }

  /// Where the weights of output channels from `channel`, a multiple of 16, and the `d`th input channels begin.
  [[nodiscard]] std::int64_t place_of_weight(std::int64_t channel, std::int64_t d) const {
    return channel / weight_line * steps_.line + d * winograd_depth * steps_.in;
  }

  /// Asks for a share, that of point `p`, of the weights that are transformed next, so that memory is read while
  /// products are computed. Inlined, because g++ drops calls of a function that does nothing else.
  [[gnu::always_inline]] void fetch_weights(std::int64_t begin, std::int64_t d, std::int64_t p) const {
    if (turned_ || bytes_ != nullptr) return;  // elsewhere in memory; a quarter
    const auto count = 9 * weight_line * depth_of(d);
    for (auto channel = begin; channel < std::min(begin + winograd_width, out_); channel += weight_line) {
      const float* from = weight_ + place_of_weight(channel, d);
      for (auto i = count * p / points; i < count * (p + 1) / points; i += weight_line) {
        __builtin_prefetch(from + i, 0, 2);
      }
    }
  }

  /// Products and results of the parts [from, to): all blocks for the first channels, then for the next.
  void multiply(std::int64_t first, std::int64_t from, std::int64_t to, const float* v, std::int64_t count) const {
    const auto widened = bytes_ != nullptr ? winograd_depth * 9 * winograd_width : 0;
    const auto scratch = at::empty({points * (winograd_weight_plane + product_plane_) + widened}, bias_.options());
    float* u = scratch.template mutable_data_ptr<float>();
    float* m = u + points * winograd_weight_plane;
    float* wide = m + points * product_plane_;
    for (auto part = from; part < to; ++part) {
      const auto block = part % count;
      const auto begin = part / count * winograd_width;
      const auto width = std::min(winograd_width, out_ - begin);
      const auto tiles = std::min(block_, tiles_ - (first + block) * block_);
      const auto rows = (tiles + 5) / 6 * 6;
      for (std::int64_t d = 0; d < depths_; ++d) {
        const auto depth = depth_of(d);
        if (bytes_ != nullptr) {
          for (std::int64_t c = 0; c < width; c += weight_line) {
            widen_(bytes_ + place_of_weight(begin + c, d), weight_line, std::min(weight_line, width - c), 9 * depth,
                   weight_scale_ + begin + c, wide + c, winograd_width);
          }
          constexpr WinogradSteps of_wide{9 * winograd_width, winograd_width, weight_line};
          passes_.spread_weight(wide, of_wide, width, depth, u);
        } else {
          passes_.spread_weight(weight_ + place_of_weight(begin, d), steps_, width, depth, u);
        }
        const bool deepest = d + 1 == depths_;
        const auto next = deepest ? part + 1 : part;
        const float* spread = v + place(block) + d * points * plane_;
        for (std::int64_t p = 0; p < points; ++p) {
          if (next < to) fetch_weights(next / count * winograd_width, deepest ? 0 : d + 1, p);
          passes_.multiply(spread + p * plane_, u + p * winograd_weight_plane, m + p * product_plane_, rows, depth,
                           d > 0);
        }
      }
      const float* bias = bias_.template const_data_ptr<float>() + begin;
      for (std::int64_t t = 0; t < tiles; ++t) {
        const auto [sample, top, left] = corner((first + block) * block_ + t);
        const auto place = ((sample * out_height_ + top) * out_width_ + left) * out_ + begin;
        const float* residual = residual_ == nullptr ? nullptr : residual_ + place;
        passes_.gather_output(m + t * winograd_width, product_plane_, bias, residual, y_ + place, out_width_ * out_,
                              out_, std::min<std::int64_t>(tile, out_height_ - top),
                              std::min<std::int64_t>(tile, out_width_ - left), width);
      }
    }
  }

  const WinogradPasses& passes_;
  decltype(Int8Passes::widen) widen_;
  const float* x_;
  const float* weight_;        ///< Null for weights in 8 bits.
  const std::int8_t* bytes_;   ///< Null for weights in fp32.
  const float* weight_scale_;  ///< Of `bytes_`.
  const float* residual_;
  float* y_;
  std::int64_t in_, out_;
  WinogradSteps steps_;  ///< Of the weights.
  bool turned_;
  std::int64_t stored_width_, stored_pixels_, shift_, padding_, in_height_, in_width_, out_height_, out_width_,
      tiles_down_, tiles_across_, tiles_, depths_, widths_, block_, plane_, product_plane_;
  at::Tensor outside_, bias_;
};

/// Runs a convolution with tiles of side `tile`, 2 or 4. \param arguments of `WinogradRun`
template <class... Arguments>
void run_winograd(std::int64_t tile, const Arguments&... arguments) {
  if (tile == 2) {
    WinogradRun<2>(arguments...).run();
  } else {
    WinogradRun<4>(arguments...).run();
  }
}

/// Convolves x with a 3x3 weight, stride 1.
///
/// \param x [B, in, h, w], fp32 on the CPU  \param weight [out, in, 3, 3] as `winograd_weight` leaves it
/// \param bias [out] or undefined, fp32  \param padding 0 or 1; h + 2 padding and w + 2 padding are at least 3
/// \param doubled convolves x enlarged to twice its size by repeating pixels, without writing it
/// \param tile 2 or 4  \param residual [B, out, h', w'] in fp32, added to the result; undefined for nothing
/// \param weight_scale [out], fp32, what weights of int8 are to be multiplied by; undefined for weights of fp32
/// \param level one that the processor has  \return [B, out, h', w'], channels-last
/// \throws Error when the residual has another shape than the result
inline at::Tensor winograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, std::int64_t padding,
                           bool doubled, std::int64_t tile, const at::Tensor& residual = {},
                           CpuLevel level = cpu_level(), const at::Tensor& weight_scale = {}) {
  const auto input = x.contiguous(at::MemoryFormat::ChannelsLast);
  const std::int64_t scale = doubled ? 2 : 1;
  const auto height = scale * x.size(2) + 2 * padding - 2;
  const auto width = scale * x.size(3) + 2 * padding - 2;
  auto y =
      at::empty({x.size(0), weight.size(0) * weight_line, height, width}, x.options(), at::MemoryFormat::ChannelsLast);
  require(!residual.defined() || residual.sizes() == y.sizes(), "convolution: residual: expected {}, found {}",
          shape_text(y.sizes()), residual.defined() ? shape_text(residual.sizes()) : std::string());
  if (y.numel() == 0) return y;
  const auto added = bias.defined() ? bias.contiguous() : bias;
  const auto other = residual.defined() ? residual.contiguous(at::MemoryFormat::ChannelsLast) : residual;
  run_winograd(tile, input, weight, added, other, padding, doubled, level, y, weight_scale);
  return y;
}

/// The gradient with respect to the input of a convolution of stride 1: that of the result, convolved with the kernel
/// turned by half a circle.
///
/// \param slope gradient of the result, [B, out, h', w'], fp32 on the CPU
/// \param weight [out, in, 3, 3], channels-last  \param padding of the convolution, 0 or 1
/// \param tile 2 or 4  \param level one that the processor has
/// \return [B, in, h' + 2 - 2 padding, w' + 2 - 2 padding], channels-last
inline at::Tensor winograd_input_gradient(const at::Tensor& slope, const at::Tensor& weight, std::int64_t padding,
                                          std::int64_t tile, CpuLevel level = cpu_level()) {
  const auto dy = slope.contiguous(at::MemoryFormat::ChannelsLast);
  const auto grown = 2 - 2 * padding;
  auto dx = at::empty({slope.size(0), weight.size(1), slope.size(2) + grown, slope.size(3) + grown}, slope.options(),
                      at::MemoryFormat::ChannelsLast);
  if (dx.numel() == 0) return dx;
  const at::Tensor none;
  run_winograd(tile, dy, weight, none, none, 2 - padding, false, level, dx, none, true);
  return dx;
}

}  // namespace ip2p::detail::cpu
