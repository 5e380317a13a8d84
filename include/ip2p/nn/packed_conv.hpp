#pragma once

/// \file
/// Convolution weights packed once into oneDNN's blocked layout.

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/mkldnn_reorder_conv2d_weight.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ip2p/kernels/cpu/levels.hpp"

namespace ip2p::detail {

/// Whether oneDNN has fast convolutions of `dtype` on this CPU, with the instructions that LibTorch is allowed to use.
inline bool can_pack(at::ScalarType dtype) {
  return at::hasMKLDNN() && at::globalContext().userEnabledMkldnn() &&
         (dtype == at::kFloat || (dtype == at::kBFloat16 && cpu_level() == CpuLevel::avx512));
}

using PackedConvolution = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                     at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, std::int64_t, std::string_view,
                                     c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

/// LibTorch's convolution with a packed weight, or nothing if this build has none.
inline const std::optional<c10::TypedOperatorHandle<PackedConvolution>>& packed_convolution() {
  static const auto handle = []() -> std::optional<c10::TypedOperatorHandle<PackedConvolution>> {
    const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_convolution_pointwise", ""});
    if (!found) return std::nullopt;
    return found->typed<PackedConvolution>();
  }();
  return handle;
}

/// `weight` [out, in, k, k] packed for inputs of the shape `input` = [B, in, h, w]; undefined if packing is not
/// supported. Without it ATen packs the weight on every call, which on small maps costs as much as the convolution.
inline at::Tensor pack_conv(const at::Tensor& weight, std::int64_t stride, std::int64_t padding,
                            at::IntArrayRef input) {
  if (!weight.device().is_cpu() || !can_pack(weight.scalar_type()) || !packed_convolution()) return {};
  const std::array<std::int64_t, 2> strides{stride, stride};
  const std::array<std::int64_t, 2> paddings{padding, padding};
  const std::array<std::int64_t, 2> dilations{1, 1};
  return at::mkldnn_reorder_conv2d_weight(weight.contiguous().to_mkldnn(), paddings, strides, dilations, 1, input);
}

/// Convolves a plain `x` with a weight packed by `pack_conv`.
inline at::Tensor conv_with_packed(const at::Tensor& x, const at::Tensor& packed, const std::optional<at::Tensor>& bias,
                                   std::int64_t stride, std::int64_t padding) {
  const std::array<std::int64_t, 2> strides{stride, stride};
  const std::array<std::int64_t, 2> paddings{padding, padding};
  const std::array<std::int64_t, 2> dilations{1, 1};
  return packed_convolution()->call(x, packed, bias, paddings, strides, dilations, 1, "none",
                                    c10::List<std::optional<at::Scalar>>(), "");
}

}  // namespace ip2p::detail
