#pragma once

/// \file
/// Weights in 8 bits, and layers that compute with them.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/int8.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/kernels/cpu/winograd.hpp"
#include "ip2p/kernels/table.hpp"
#include "ip2p/nn/convolution.hpp"
#include "ip2p/nn/int8_host.hpp"

namespace ip2p::detail {

/// Rounds the weights of one output channel to multiples of `scale`. \return the sum of the whole numbers
inline float round_channel(const float* weight, std::int64_t depth, std::int8_t* to, float& scale) {
  float most = 0.0F;
  bool finite = true;
  for (std::int64_t i = 0; i < depth; ++i) {
    const float size = std::abs(weight[i]);
    finite &= size <= std::numeric_limits<float>::max();
    most = std::max(most, size);
  }
  if (!finite) {
    std::fill_n(to, depth, std::int8_t{0});
    scale = std::numeric_limits<float>::quiet_NaN();
    return 0.0F;
  }
  scale = std::max(most, 1e-30F) / 127.0F;  // a channel of zeros has no scale of its own
  // Adding 1.5 * 2^23 rounds to the nearest whole number, halves to the even one, in one instruction on every
  // processor.
  constexpr float rounder = 12582912.0F;
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < depth; ++i) {
    const auto whole = static_cast<std::int32_t>((weight[i] / scale + rounder) - rounder);
    to[i] = static_cast<std::int8_t>(whole);
    sum += whole;
  }
  return static_cast<float>(sum);
}

/// `weight` [out, ...] as whole numbers in [-127, 127] times a scale for each output channel, to the nearest. NaN and
/// infinity make a channel's scale NaN. The order of the values is that of the weight.
inline Int8Weight to_int8(const at::Tensor& weight) {
  const auto rows = weight.detach().to(at::kFloat).flatten(1).contiguous();
  const auto depth = rows.size(1);
  Int8Weight rounded{.values = at::empty(weight.sizes(), rows.options().dtype(at::kChar)),
                     .scale = at::empty({rows.size(0)}, rows.options()),
                     .sums = at::empty({rows.size(0)}, rows.options())};
  const float* from = rows.const_data_ptr<float>();
  auto* to = rounded.values.mutable_data_ptr<std::int8_t>();
  float* scales = rounded.scale.mutable_data_ptr<float>();
  float* sums = rounded.sums.mutable_data_ptr<float>();
  in_threads(rows.size(0), (std::int64_t{1} << 16) / std::max<std::int64_t>(depth, 1),
             [&](std::int64_t first, std::int64_t last) {
               for (auto r = first; r < last; ++r) {
                 sums[r] = round_channel(from + r * depth, depth, to + r * depth, scales[r]);
               }
             });
  return rounded;
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
