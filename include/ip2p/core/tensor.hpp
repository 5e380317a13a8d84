#pragma once

/// \file
/// The tensor tier: `at::Tensor` and nothing heavier. Headers of this tier add the single operators they call.

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>

namespace ip2p {

/// "[1, 4, 64, 64]": how shapes appear in messages.
inline std::string shape_text(at::IntArrayRef sizes) { return fmt::format("[{}]", fmt::join(sizes, ", ")); }

}  // namespace ip2p
