#pragma once

/// \file
/// The tensor tier: `at::Tensor` and nothing heavier. Headers of this tier add the single operators they call.

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>

// The operators on tensors; without this macro their header draws in every operator of LibTorch.
#ifndef AT_PER_OPERATOR_HEADERS
#define AT_PER_OPERATOR_HEADERS
#include <ATen/TensorOperators.h>
#undef AT_PER_OPERATOR_HEADERS
#else
#include <ATen/TensorOperators.h>
#endif

namespace ip2p {

/// "[1, 4, 64, 64]": how shapes appear in messages.
inline std::string shape_text(at::IntArrayRef sizes) { return fmt::format("[{}]", fmt::join(sizes, ", ")); }

/// "[1, 4, 64, 64] of Float", or "no tensor": how a result of another kind than expected appears in messages.
inline std::string tensor_text(const at::Tensor& tensor) {
  if (!tensor.defined()) return "no tensor";
  return fmt::format("{} of {}", shape_text(tensor.sizes()), c10::toString(tensor.scalar_type()));
}

}  // namespace ip2p
