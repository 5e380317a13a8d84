#pragma once

#include <ATen/core/Tensor.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "ip2p/io/safetensors.hpp"
#include "support/paths.hpp"

namespace ip2p::testing {

/// A whole JSON file. Throws on a syntax error.
inline nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream stream(path);
  REQUIRE(stream.good());
  return nlohmann::json::parse(stream);
}

/// Largest absolute difference, in fp64. Shapes must agree; NaN counts as infinite.
inline double max_difference(const at::Tensor& found, const at::Tensor& expected) {
  REQUIRE(found.sizes() == expected.sizes());
  const auto difference = (found.detach().to(at::kDouble) - expected.to(at::kDouble)).abs();
  return difference.nan_to_num(1e300).max().item<double>();
}

/// Standard deviation over all elements.
inline double deviation(const at::Tensor& x) { return x.to(at::kDouble).std().item<double>(); }

/// Root mean square of the difference, relative to the deviation of `expected`.
inline double relative_rms(const at::Tensor& found, const at::Tensor& expected) {
  REQUIRE(found.sizes() == expected.sizes());
  const auto difference = found.detach().to(at::kDouble) - expected.to(at::kDouble);
  return difference.pow(2).mean().sqrt().item<double>() / deviation(expected);
}

}  // namespace ip2p::testing
