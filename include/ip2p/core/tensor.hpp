#pragma once

/// \file
/// `at::Tensor` and nothing heavier. Headers that build on this one include only the individual operators they call.

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>

// Arithmetic operators on tensors. Without this macro the header pulls in every operator of LibTorch.
#ifndef AT_PER_OPERATOR_HEADERS
#define AT_PER_OPERATOR_HEADERS
#include <ATen/TensorOperators.h>
#undef AT_PER_OPERATOR_HEADERS
#else
#include <ATen/TensorOperators.h>
#endif

namespace ip2p {

/// Formats a shape for messages, e.g. "[1, 4, 64, 64]".
inline std::string shape_text(at::IntArrayRef sizes) { return fmt::format("[{}]", fmt::join(sizes, ", ")); }

/// Formats a tensor's shape and dtype for messages, e.g. "[1, 4, 64, 64] of Float", or "no tensor" if undefined.
inline std::string tensor_text(const at::Tensor& tensor) {
  if (!tensor.defined()) return "no tensor";
  return fmt::format("{} of {}", shape_text(tensor.sizes()), c10::toString(tensor.scalar_type()));
}

}  // namespace ip2p
