#include "ip2p/attention/fused_attention.hpp"

#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "support/catch.hpp"

using namespace ip2p;

namespace {

/// Queries as a fused projection of `channels` leaves them: [B,heads,N,d], every third row of channels.
at::Tensor chunk_of(std::int64_t channels, std::int64_t heads, std::int64_t which, at::ScalarType dtype) {
  const auto qkv = at::randn({2, 5, 3 * channels}).to(dtype).chunk(3, -1);
  return qkv[static_cast<std::size_t>(which)].unflatten(-1, {heads, channels / heads}).transpose(1, 2);
}

double difference(const at::Tensor& a, const at::Tensor& b) { return a.sub(b).abs().max().item<double>(); }

}  // namespace

TEST_CASE("Heads of Stable Diffusion are aligned as their projections leave them", "[attention]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const std::int64_t width : {40, 64, 80, 160, 512}) {
      for (std::int64_t which = 0; which < 3; ++which) {
        const auto heads = chunk_of(8 * width, 8, which, dtype);
        CHECK(ip2p::detail::is_aligned(heads));
        CHECK(ip2p::detail::aligned(heads).is_same(heads));
      }
    }
  }
}

TEST_CASE("Widths and places between whole loads are told from shape, strides and offset", "[attention]") {
  CHECK(ip2p::detail::aligned_width(40, at::kHalf) == 40);
  CHECK(ip2p::detail::aligned_width(41, at::kHalf) == 48);
  CHECK(ip2p::detail::aligned_width(41, at::kFloat) == 44);
  CHECK(ip2p::detail::aligned_width(1, at::kBFloat16) == 8);
  const auto row = at::randn({1, 2, 3, 24}).to(at::kHalf);
  CHECK(ip2p::detail::is_aligned(row));
  CHECK(ip2p::detail::is_aligned(row.narrow(-1, 8, 8)));
  CHECK_FALSE(ip2p::detail::is_aligned(row.narrow(-1, 4, 8)));                      // begins between two loads
  CHECK_FALSE(ip2p::detail::is_aligned(row.narrow(-1, 0, 12)));                     // half a load is missing
  CHECK_FALSE(ip2p::detail::is_aligned(row.transpose(2, 3)));                       // channels apart
  CHECK_FALSE(ip2p::detail::is_aligned(chunk_of(12, 2, 1, at::kHalf)));             // heads of 6
  CHECK_FALSE(ip2p::detail::is_aligned(at::randn({1, 2, 3, 9}).narrow(-1, 0, 8)));  // rows of 9
  CHECK(ip2p::detail::is_aligned(at::randn({1, 1, 1, 9}).narrow(-1, 0, 8)));        // a single row
  for (const auto& odd : {row.narrow(-1, 4, 8), row.narrow(-1, 0, 12), chunk_of(12, 2, 1, at::kHalf)}) {
    CHECK(ip2p::detail::is_aligned(ip2p::detail::aligned(odd)));
  }
}

TEST_CASE("Attention over aligned copies is attention", "[attention]") {
  for (const std::int64_t width : {1, 3, 6, 40, 41}) {
    INFO(width);
    const auto q = chunk_of(2 * width, 2, 0, at::kFloat), k = chunk_of(2 * width, 2, 1, at::kFloat);
    for (const auto& v : {chunk_of(2 * width, 2, 2, at::kFloat), at::randn({2, 2, 5, 2})}) {
      const auto expected = at::scaled_dot_product_attention(q, k, v);
      const auto found = ip2p::detail::aligned_attention(q, k, v);
      CHECK(found.sizes() == expected.sizes());
      CHECK(difference(found, expected) < 1e-6);
      CHECK(difference(ip2p::detail::attention(q, k, v), expected) < 1e-6);
    }
  }
}
