#pragma once

/// \file
/// The convolution used by all layers here.

#include <ATen/ops/conv2d.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <cstdint>
#include <optional>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/winograd.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p {

/// How frozen layers compute convolutions of 3x3 and 1x1 and stride 1 in fp32 on a CPU. Others are always direct.
enum class ConvolutionForm {
  fastest,  ///< 3x3 by Winograd's minimal filtering where it is faster, 2 to 4 times, at 2 to 4 times the rounding
            ///< error; 1x1 as linear layers of pixels.
  direct,   ///< By LibTorch's direct convolution (oneDNN).
};

namespace detail {

/// `weight` in the dtype of `x`: itself, or a temporary copy if weights are stored in a narrower dtype. Under autocast
/// an fp32 weight stays as it is, whatever x is: autocast itself narrows the weights of products, and norms want fp32.
inline at::Tensor weight_for(const at::Tensor& x, const at::Tensor& weight) {
  if (!weight.defined() || weight.scalar_type() == x.scalar_type()) return weight;
  const bool autocast = (x.is_cpu() || x.is_cuda()) && at::autocast::is_autocast_enabled(x.device().type());
  return autocast && weight.scalar_type() == at::kFloat ? weight : weight.to(x.scalar_type());
}

/// The same for an optional bias.
inline std::optional<at::Tensor> bias_for(const at::Tensor& x, const at::Tensor& bias) {
  return bias.defined() ? std::optional<at::Tensor>(weight_for(x, bias)) : std::nullopt;
}

/// The dtype in which `at::conv2d` computes on a CPU: that of x, or autocast's.
inline at::ScalarType convolution_dtype(const at::Tensor& x) {
  const bool cast = x.scalar_type() != at::kDouble && at::autocast::is_autocast_enabled(at::kCPU);
  return cast ? at::autocast::get_autocast_dtype(at::kCPU) : x.scalar_type();
}

/// Whether this convolution must be computed in fp32 to get its gradients right. On CPUs with 16-bit arithmetic,
/// LibTorch occasionally returns NaN gradients for bf16 convolutions over a map smaller than the kernel (seen with
/// LibTorch 2.11 and avx512_bf16, 3x3 with stride 2 over 1x1). Such maps have only a few pixels, so fp32 costs almost
/// nothing.
inline bool gradients_need_fp32(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!x.is_cpu() || !records_graph(x, weight, bias)) return false;
  if (x.size(2) >= weight.size(2) && x.size(3) >= weight.size(3)) return false;
  const auto dtype = convolution_dtype(x);
  return dtype == at::kBFloat16 || dtype == at::kHalf;
}

/// Convolves x [B, in, h, w] with a plain (not packed) weight [out, in, k, k] of any dtype; respects autocast.
/// \param bias [out] or undefined  \return [B, out, h', w'] in the dtype of x or autocast's
inline at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              std::int64_t stride, std::int64_t padding) {
  if (gradients_need_fp32(x, weight, bias)) {
    const auto dtype = convolution_dtype(x);
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
    const auto wide = x.to(at::kFloat);
    return at::conv2d(wide, weight_for(wide, weight), bias_for(wide, bias), stride, padding).to(dtype);
  }
  return at::conv2d(x, weight_for(x, weight), bias_for(x, bias), stride, padding);
}

/// Whether a convolution is a linear layer of each pixel, with a weight that one can read: 1x1, stride 1, not packed.
inline bool is_linear_of_pixels(const at::Tensor& weight, std::int64_t stride, std::int64_t padding) {
  return weight.layout() == at::kStrided && weight.dim() == 4 && weight.size(2) == 1 && weight.size(3) == 1 &&
         stride == 1 && padding == 0;
}

/// Whether a frozen layer with the plain `weight` is to convolve maps of `dtype` on the CPU by Winograd's filtering. It
/// does not depend on the size of the map, so that a result does not depend on the maps that came before.
inline bool wants_winograd(at::ScalarType dtype, const at::Tensor& weight, std::int64_t stride, std::int64_t padding) {
  // With fewer channels the transforms cost more than the products that they save.
  constexpr std::int64_t least = 32;
  return vector_code_is_optimised && weight.device().is_cpu() && weight.layout() == at::kStrided &&
         dtype == at::kFloat && weight.scalar_type() == at::kFloat && weight.dim() == 4 &&
         !at::autocast::is_autocast_enabled(at::kCPU) && stride == 1 && (padding == 0 || padding == 1) &&
         weight.size(2) == 3 && weight.size(3) == 3 && weight.size(0) >= least && weight.size(1) >= least &&
         weight.size(0) % cpu::weight_line == 0;
}

/// Whether x can be convolved by Winograd's filtering: the weight is in its order and x in fp32, and neither autocast
/// nor a graph asks for LibTorch's operator.
inline bool takes_winograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                           std::int64_t padding) {
  if (!cpu::is_winograd_weight(weight) || !x.device().is_cpu() || x.scalar_type() != at::kFloat || x.dim() != 4 ||
      x.size(1) != weight.size(1) || x.size(2) + 2 * padding < 3 || x.size(3) + 2 * padding < 3 ||
      (bias.defined() && bias.scalar_type() != at::kFloat) || at::autocast::is_autocast_enabled(at::kCPU)) {
    return false;
  }
  return !records_graph(x, weight, bias);
}

/// Convolves x, which `takes_winograd`. \param doubled x is enlarged to twice its size first, by repeating pixels
/// \param residual added to the result; of its shape, in fp32; undefined for nothing
/// \param weight_scale of a weight in 8 bits, as `cpu::winograd` has it; undefined for one in fp32
inline at::Tensor winograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, std::int64_t padding,
                           bool doubled = false, const at::Tensor& residual = {}, const at::Tensor& weight_scale = {}) {
  const std::int64_t scale = doubled ? 2 : 1;
  const auto tile = cpu::winograd_tile(scale * x.size(2) + 2 * padding - 2, scale * x.size(3) + 2 * padding - 2);
  return cpu::winograd(x, weight, bias, padding, doubled, tile, residual, cpu_level(), weight_scale);
}

}  // namespace detail

}  // namespace ip2p
