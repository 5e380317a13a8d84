#pragma once

/// \file
/// Reporting of the conformance kit: an `Error` naming the concept, the law and what was found. It needs no test
/// framework; any of them shows an escaping exception.

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>

#include <concepts>
#include <string_view>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p::testing {

/// Throws `Error` "<role> breaks the law \"<law>\": <found>" unless `holds`.
template <class... Args>
void expect_law(bool holds, std::string_view role, std::string_view law, fmt::format_string<Args...> found,
                Args&&... args) {
  if (!holds) {
    throw_error("{} breaks the law \"{}\": {}", role, law, fmt::format(found, std::forward<Args>(args)...));
  }
}

/// Runs `action`, which must throw `Expected` (default: any `ip2p::Error`).
template <class Expected = Error, class Action>
void expect_throws(Action&& action, std::string_view role, std::string_view law, std::string_view input) {
  bool thrown = false;
  try {
    std::forward<Action>(action)();
  } catch (const Expected&) {
    thrown = true;
  }
  expect_law(thrown, role, law, "{} was accepted", input);
}

/// Same shape, dtype and values, bit for bit.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() && b.defined() && a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && at::equal(a, b);
}

/// Same shape and |a - b| <= tolerance * (1 + |b|).
inline bool close(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  return a.defined() && b.defined() && a.sizes() == b.sizes() && at::allclose(a, b, tolerance, tolerance);
}

}  // namespace ip2p::testing
