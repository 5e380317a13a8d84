#pragma once

/// \file
/// Reporting of the conformance kit: an `Error` naming the concept, the law and what was found. It needs no test
/// framework; any of them shows an escaping exception.

#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>

#include <cmath>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

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
  std::string found = "was accepted";
  try {
    std::forward<Action>(action)();
  } catch (const Expected&) {
    return;
  } catch (const std::exception& other) {
    found = fmt::format("gave another exception than expected: {}", other.what());
  }
  expect_law(false, role, law, "{} {}", input, found);
}

/// Same shape, dtype and values, bit for bit.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() && b.defined() && a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && at::equal(a, b);
}

/// Same shape and dtype, and |a - b| <= tolerance * (1 + |b|).
inline bool close(const at::Tensor& a, const at::Tensor& b, double tolerance) {
  return a.defined() && b.defined() && a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         at::allclose(a, b, tolerance, tolerance);
}

/// Where and by how much `found` is not `expected`: the largest difference and its index, or the shapes and dtypes if
/// these already differ.
inline std::string difference_text(const at::Tensor& found, const at::Tensor& expected) {
  if (!found.defined() || !expected.defined() || found.scalar_type() != expected.scalar_type() ||
      found.sizes() != expected.sizes() || found.numel() == 0) {
    return fmt::format("expected {}, found {}", tensor_text(expected), tensor_text(found));
  }
  const auto values = [](const at::Tensor& x) { return x.detach().to(at::kCPU, at::kDouble).flatten(); };
  const auto a = values(found), b = values(expected);
  const auto place = a.sub(b).abs().argmax().item<std::int64_t>();  // that of a NaN, if there is one
  std::vector<std::int64_t> index;
  auto rest = place;
  for (auto axis = found.dim(); axis-- > 0; rest /= found.size(axis))
    index.insert(index.begin(), rest % found.size(axis));
  const auto x = a[place].item<double>(), y = b[place].item<double>();
  return fmt::format("expected {:.6g}, found {:.6g} at {}, where the difference of {:.2g} is largest", y, x,
                     shape_text(index), std::abs(x - y));
}

/// `expect_law(close(found, expected, tolerance))`, which says how they differ. \param where the case, or ""
inline void expect_close(const at::Tensor& found, const at::Tensor& expected, double tolerance, std::string_view role,
                         std::string_view law, std::string_view where = "") {
  if (close(found, expected, tolerance)) return;
  expect_law(false, role, law, "{}{}{}", where, where.empty() ? "" : ": ", difference_text(found, expected));
}

/// `expect_law(same_bits(found, expected))`, which says how they differ. \param where the case, or ""
inline void expect_same_bits(const at::Tensor& found, const at::Tensor& expected, std::string_view role,
                             std::string_view law, std::string_view where = "") {
  if (same_bits(found, expected)) return;
  expect_law(false, role, law, "{}{}{}", where, where.empty() ? "" : ": ", difference_text(found, expected));
}

/// Throws `Error` unless all values of `tensor` are finite. \param where the case, or ""
inline void expect_finite(const at::Tensor& tensor, std::string_view role, std::string_view law,
                          std::string_view where = "") {
  const auto nans = tensor.isnan().sum().item<std::int64_t>(), infinite = tensor.isinf().sum().item<std::int64_t>();
  expect_law(nans + infinite == 0, role, law, "{}{}{} NaN and {} infinite values in {}", where,
             where.empty() ? "" : ": ", nans, infinite, tensor_text(tensor));
}

}  // namespace ip2p::testing
