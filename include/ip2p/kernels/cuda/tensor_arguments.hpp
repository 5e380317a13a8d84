#pragma once

/// \file
/// Tensors as arguments of the device code: which ones the kernels take, what they are told of them, and room for what
/// they write.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cuda/element.cuh"
#include "ip2p/kernels/cuda/elementwise.cuh"

namespace ip2p::kernels::detail {

/// The kernels' name of a dtype; nothing for one that they do not take.
inline std::optional<Number> number_of_dtype(at::ScalarType dtype) {
  if (dtype == at::kFloat) return Number::fp32;
  if (dtype == at::kBFloat16) return Number::bf16;
  if (dtype == at::kHalf) return Number::fp16;
  return std::nullopt;
}

/// Number of a dtype that was found fit.
inline Number number_of(const at::Tensor& tensor) { return *number_of_dtype(tensor.scalar_type()); }

/// Whether kernels take the numbers of x as their main argument.
inline bool fits(const at::Tensor& x) { return number_of_dtype(x.scalar_type()).has_value() && x.numel() > 0; }

/// Whether x is a map that lies in NHWC order.
inline bool fits_map(const at::Tensor& x) {
  return fits(x) && x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

/// Whether kernels take a parameter of `count` numbers beside x; an undefined one is fit.
inline bool fits_parameter(const at::Tensor& x, const at::Tensor& parameter, std::int64_t count) {
  return !parameter.defined() || (number_of_dtype(parameter.scalar_type()).has_value() && parameter.numel() == count &&
                                  parameter.is_contiguous() && parameter.device() == x.device());
}

/// Whether `other` has the dtype, device, shape and strides of x.
inline bool alike(const at::Tensor& x, const at::Tensor& other) {
  return other.scalar_type() == x.scalar_type() && other.device() == x.device() && other.sizes() == x.sizes() &&
         other.strides() == x.strides();
}

/// The numbers of a parameter; of none, `missing`.
inline AnyNumbers parameters_of(const at::Tensor& parameter, float missing = 0.0f) {
  if (!parameter.defined()) return {.missing = missing};
  return {.data = parameter.const_data_ptr(), .number = number_of(parameter), .missing = missing};
}

/// Where a parameter's gradient goes.
inline MutableAnyNumbers results_of(const at::Tensor& gradient) {
  if (!gradient.defined()) return {};
  return {.data = gradient.mutable_data_ptr(), .number = number_of(gradient)};
}

/// Address of a tensor, or null.
inline const void* address(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr() : nullptr; }

/// Strides of [rows, channels, pixels] of a map whose pixels lie at equal distances; nothing for another.
inline std::optional<MapStrides> map_strides(const at::Tensor& map) {
  const auto height = map.size(2), width = map.size(3);
  const auto pixel = width > 1 ? map.stride(3) : map.stride(2);
  if (height > 1 && width > 1 && map.stride(2) != width * pixel) return std::nullopt;
  return MapStrides{map.stride(0), map.stride(1), pixel};
}

/// An uninitialised tensor like `like`, or an undefined one like an undefined one.
inline at::Tensor empty_or_none(const at::Tensor& like) { return like.defined() ? at::empty_like(like) : at::Tensor(); }

/// Workspace of some bytes beside x.
inline at::Tensor workspace_beside(const at::Tensor& x, std::size_t bytes) {
  return at::empty({static_cast<std::int64_t>(bytes / sizeof(float))}, x.options().dtype(at::kFloat));
}

}  // namespace ip2p::kernels::detail
