#pragma once

/// \file
/// Weights in 8 bits, and layers that compute with them.

#include <ATen/core/Tensor.h>
#include <ATen/ops/where.h>

#include <cstdint>
#include <limits>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/int8.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/winograd.hpp"
#include "ip2p/kernels/table.hpp"
#include "ip2p/nn/convolution.hpp"
#include "ip2p/nn/int8_host.hpp"

namespace ip2p::detail {

/// `weight` [out, ...] as whole numbers in [-127, 127] times a scale for each output channel, to the nearest. NaN and
/// infinity make a channel's scale NaN. The order of the values is that of the weight.
inline Int8Weight to_int8(const at::Tensor& weight) {
  const auto rows = weight.detach().to(at::kFloat).flatten(1);
  const auto most = rows.abs().amax({1});
  const auto finite = most.isfinite();
  // A channel of zeros has no scale of its own.
  const auto scale = at::where(finite, most.clamp_min(1e-30), 1.0).div(127.0);
  const auto values =
      at::where(finite.unsqueeze(1), rows.div(scale.unsqueeze(1)), 0.0).round().clamp(-127, 127).to(at::kChar);
  return {.values = values.view(weight.sizes()),
          .scale = at::where(finite, scale, std::numeric_limits<double>::quiet_NaN()),
          .sums = values.sum(1, false, at::kInt).to(at::kFloat)};
}

/// The weight of a linear layer in 8 bits. \param weight [out, in] or [out, in, 1, 1], multiples of 16
inline Int8Weight int8_linear_weight(const at::Tensor& weight) {
  auto rounded = to_int8(weight.flatten(1));
  rounded.values = cpu::int8_columns(rounded.values);
  return rounded;
}

/// The weight of a 3x3 convolution in 8 bits. \param weight [out, in, 3, 3], out a multiple of 16
inline Int8Weight int8_conv_weight(const at::Tensor& weight) {
  auto rounded = to_int8(weight);
  return {.values = cpu::winograd_weight(rounded.values), .scale = rounded.scale, .sums = {}};
}

/// \throws Error if gradients would be recorded through x, or through what else is given
inline void require_no_graph_in_int8(std::string_view layer, const at::Tensor& x, const at::Tensor& other) {
  require(!records_graph(x, other),
          "{}: expected a call that records no gradients, because its weight is in 8 bits, found one that does; use "
          "at::NoGradGuard, or load the model without int8",
          layer);
}

/// x W^T + b with the weight in 8 bits and each row of x rounded to 8.
/// \param x [..., in]  \param bias [out] or undefined  \return [..., out] in the dtype of x
/// \throws Error if gradients are recorded
inline at::Tensor int8_linear(const at::Tensor& x, const Int8Weight& weight, const at::Tensor& bias) {
  require_no_graph_in_int8("Linear", x, bias);
  const auto level = cpu_level();
  const auto in = x.size(-1);
  const auto depth = weight.values.size(1) * 4;
  require(in == depth, "Linear: x: expected {} numbers a row, found {}", depth, in);
  const auto y =
      cpu::int8_product(x.reshape({-1, in}).to(at::kFloat).contiguous(), weight.values, weight.scale, weight.sums,
                        bias.defined() ? bias.to(at::kFloat).contiguous() : bias, level, cpu::int8_by_vnni(level));
  auto sizes = x.sizes().vec();
  sizes.back() = weight.scale.size(0);
  return y.view(sizes).to(x.scalar_type());
}

/// Convolves x with a 3x3 weight in 8 bits, in fp32. Arguments as those of `winograd`.
/// \param x [B, in, h, w]  \return [B, out, h', w'] in the dtype of x  \throws Error if gradients are recorded
inline at::Tensor int8_winograd(const at::Tensor& x, const Int8Weight& weight, const at::Tensor& bias,
                                std::int64_t padding, bool doubled = false, const at::Tensor& residual = {}) {
  require_no_graph_in_int8("Conv2d", x, bias);
  require(x.dim() == 4 && x.size(1) == weight.values.size(1) && x.size(2) + 2 * padding >= 3 &&
              x.size(3) + 2 * padding >= 3,
          "Conv2d: x: expected maps [batch, {}, height, width] of at least 3x3 with their padding, found {}",
          weight.values.size(1), shape_text(x.sizes()));
  return winograd(x.to(at::kFloat), weight.values, bias.defined() ? bias.to(at::kFloat) : bias, padding, doubled,
                  residual, weight.scale)
      .to(x.scalar_type());
}

}  // namespace ip2p::detail
