#pragma once

// Golden values from JSON fixtures, for tests of the tensor tier.

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

namespace ip2p::testing {

/// The parsed fixture tests/`name`.
inline nlohmann::json golden(std::string_view name) {
  std::ifstream stream(fixture(name));
  REQUIRE(stream.good());
  return nlohmann::json::parse(stream);
}

/// A tensor of `shape` from a flat list of numbers.
inline at::Tensor golden_tensor(const nlohmann::json& values, at::IntArrayRef shape,
                                at::ScalarType dtype = at::kFloat) {
  return at::tensor(at::ArrayRef<double>(values.get<std::vector<double>>()), at::kDouble).reshape(shape).to(dtype);
}

/// Largest |found - expected| / |expected| of two lists; zeros must be equal.
inline double relative_difference(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = std::abs(found[i] - expected[i]);
    if (difference != 0.0) largest = std::max(largest, difference / std::abs(expected[i]));
    if (!std::isfinite(difference)) return INFINITY;
  }
  return largest;
}

/// Largest |found - expected| over all elements; infinite where one is not a number.
inline double largest_difference(const at::Tensor& found, const at::Tensor& expected) {
  REQUIRE(found.sizes() == expected.sizes());
  return found.to(at::kDouble).sub(expected.to(at::kDouble)).abs().nan_to_num(INFINITY).max().item<double>();
}

}  // namespace ip2p::testing
