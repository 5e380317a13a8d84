#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <string>

#include "ip2p/attention/plain.hpp"
#include "support/catch.hpp"

TEST_CASE("PlainAttention equals softmax(Q K^T / sqrt(d)) V", "[attention]") {
  const auto q = at::randn({2, 3, 7, 8});
  const auto k = at::randn({2, 3, 5, 8});
  const auto v = at::randn({2, 3, 5, 8});
  const auto map = at::softmax(at::matmul(q, k.transpose(-2, -1)) / std::sqrt(8.0), -1);
  const auto difference = at::matmul(map, v) - ip2p::PlainAttention{}({}, q, k, v);
  CHECK(difference.abs().max().item<double>() < 1e-6);
}
