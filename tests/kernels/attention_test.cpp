#include "ip2p/kernels/cpu/attention.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "ip2p/core/autograd.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "support/catch.hpp"
#include "support/cpu_levels.hpp"

namespace {

namespace cpu = ip2p::detail::cpu;
using ip2p::detail::CpuLevel;

struct Heads {
  at::Tensor q, k, v;
};

/// Heads as projections leave them: views of [B,tokens,heads*d], keys and values halves of the same rows.
Heads attention_heads(at::Generator& random, std::int64_t batch, std::int64_t heads, std::int64_t queries,
                      std::int64_t keys, std::int64_t depth) {
  const auto split = [&](const at::Tensor& x) { return x.unflatten(-1, {heads, depth}).transpose(1, 2); };
  const auto kv = at::randn({batch, keys, 2 * heads * depth}, random).chunk(2, -1);
  return {split(at::randn({batch, queries, heads * depth}, random)), split(kv[0]), split(kv[1])};
}

at::Tensor attention_in_fp64(const Heads& heads) {
  const auto q = heads.q.to(at::kDouble) / std::sqrt(static_cast<double>(heads.q.size(3)));
  return at::matmul(at::softmax(at::matmul(q, heads.k.to(at::kDouble).transpose(2, 3)), -1), heads.v.to(at::kDouble));
}

/// Root of the mean squared difference over that of the reference.
double attention_error(const at::Tensor& found, const at::Tensor& reference) {
  return ((found.to(at::kDouble) - reference).norm() / reference.norm()).item<double>();
}

}  // namespace

TEST_CASE("Attention by blocks is that of fp64 at every level, for any number of tokens", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(21);
  struct Shape {
    std::int64_t batch, heads, queries, keys, depth;
  };
  for (const auto& s :
       {Shape{1, 1, 1, 1, 16}, Shape{2, 3, 1, 77, 40}, Shape{1, 2, 33, 1, 24}, Shape{2, 2, 33, 77, 80},
        Shape{3, 2, 64, 64, 160}, Shape{1, 2, 25, 128, 64}, Shape{1, 1, 48, 129, 40}, Shape{1, 2, 193, 300, 56},
        Shape{2, 1, 257, 5, 48}, Shape{1, 1, 7, 3, 512}, Shape{1, 2, 500, 4096, 16}, Shape{1, 1, 400, 4096, 40}}) {
    const auto heads = attention_heads(random, s.batch, s.heads, s.queries, s.keys, s.depth);
    const auto expected = attention_in_fp64(heads);
    const auto usual = attention_error(at::scaled_dot_product_attention(heads.q, heads.k, heads.v), expected);
    for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
      INFO(level << ", " << s.queries << " queries, " << s.keys << " keys, heads of " << s.depth);
      REQUIRE(cpu::fits_blocked_attention(heads.q, heads.k, heads.v));
      const auto found = cpu::blocked_attention(heads.q, heads.k, heads.v, false, value);
      REQUIRE(found.sizes() == expected.sizes());
      CHECK(found.transpose(1, 2).is_contiguous());
      const auto error = attention_error(found, expected);
      CHECK(error < 2e-6);
      CHECK(error < 2 * usual + 1e-7);
    }
  }
}

TEST_CASE("Causal attention by blocks is that of fp64 at every level", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(27);
  for (const std::int64_t tokens : {1, 2, 16, 17, 77, 128, 129, 193, 300, 500}) {
    const auto heads = attention_heads(random, 2, 2, tokens, tokens, 40);
    // Scores far above those of the keys that a query may see must not count.
    heads.k.select(2, tokens - 1).mul_(100);
    const auto usual = at::scaled_dot_product_attention(heads.q.to(at::kDouble), heads.k.to(at::kDouble),
                                                        heads.v.to(at::kDouble), {}, 0.0, true);
    for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
      INFO(level << ", " << tokens << " tokens");
      CHECK(attention_error(cpu::blocked_attention(heads.q, heads.k, heads.v, true, value), usual) < 3e-6);
    }
  }
  // More keys than queries: the first query sees the first key, as LibTorch has it.
  const auto heads = attention_heads(random, 1, 3, 50, 140, 64);
  CHECK(attention_error(cpu::blocked_attention(heads.q, heads.k, heads.v, true),
                        at::scaled_dot_product_attention(heads.q.to(at::kDouble), heads.k.to(at::kDouble),
                                                         heads.v.to(at::kDouble), {}, 0.0, true)) < 3e-6);
}

TEST_CASE("Attention by blocks takes values of another width, and tokens of any strides", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(22);
  const auto q = at::randn({2, 3, 35, 40}, random);
  Heads heads{q, at::randn({50, 2, 3, 47}, random).permute({1, 2, 0, 3}).narrow(3, 3, 40),
              at::randn({1, 1, 50, 24}, random).expand({2, 3, -1, -1})};
  REQUIRE(cpu::fits_blocked_attention(heads.q, heads.k, heads.v));
  for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
    INFO(level);
    const auto found = cpu::blocked_attention(heads.q, heads.k, heads.v, false, value);
    CHECK(attention_error(found, attention_in_fp64(heads)) < 1e-6);
  }
  const auto turned = q.transpose(2, 3);
  CHECK_FALSE(cpu::fits_blocked_attention(turned, turned, turned));  // channels apart
  CHECK_FALSE(cpu::fits_blocked_attention(heads.q.narrow(3, 0, 36), heads.k.narrow(3, 0, 36), heads.v));
  CHECK_FALSE(cpu::fits_blocked_attention(heads.q.narrow(3, 0, 8), heads.k.narrow(3, 0, 8), heads.v));
  CHECK_FALSE(cpu::fits_blocked_attention(heads.q, heads.k.narrow(0, 0, 1), heads.v));  // one for all rows
  CHECK_FALSE(cpu::fits_blocked_attention(heads.q, heads.k.narrow(2, 0, 0), heads.v.narrow(2, 0, 0)));
  CHECK_FALSE(cpu::fits_blocked_attention(heads.q, heads.k, heads.v.to(at::kBFloat16)));
  CHECK_FALSE(cpu::fits_blocked_attention(heads.q[0], heads.k[0], heads.v[0]));
}

TEST_CASE("Attention by blocks stands scores of +-80 that grow from block to block", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(23);
  auto heads = attention_heads(random, 1, 2, 50, 400, 40);
  for (const bool growing : {false, true}) {
    if (growing) heads.k = at::cat({heads.k.narrow(2, 0, 200) * 0.01, heads.k.narrow(2, 200, 200)}, 2);
    const auto scores = at::matmul(heads.q, heads.k.transpose(2, 3)) / std::sqrt(40.0);
    const Heads large{heads.q * (80 / scores.abs().max().item<double>()), heads.k, heads.v};
    const auto expected = attention_in_fp64(large);
    const auto usual = attention_error(at::scaled_dot_product_attention(large.q, large.k, large.v), expected);
    for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
      INFO(level << ", growing " << growing);
      const auto error = attention_error(cpu::blocked_attention(large.q, large.k, large.v, false, value), expected);
      CHECK(error < 1e-5);
      CHECK(error < 2 * usual);
    }
  }
}

TEST_CASE("What is not finite reaches the queries that see it, and no others", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(24);
  const auto heads = attention_heads(random, 1, 1, 30, 140, 40);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
      INFO(level << " " << bad);
      const auto attend = [&](const Heads& h) {
        return cpu::blocked_attention(h.q, h.k, h.v, false, value).select(1, 0)[0];
      };
      auto query = heads;
      query.q = heads.q.clone();
      query.q.select(2, 29).fill_(bad);
      const auto found = attend(query);
      CHECK(at::isnan(found[29]).all().item<bool>());
      CHECK(at::equal(found.narrow(0, 0, 29), attend(heads).narrow(0, 0, 29)));
      auto keyed = heads;
      keyed.k = heads.k.clone();
      keyed.k.select(2, 139).fill_(std::numeric_limits<float>::quiet_NaN());
      CHECK(at::isnan(attend(keyed)).all().item<bool>());
      auto valued = heads;
      valued.v = heads.v.clone();
      valued.v.select(2, 3).select(2, 7).fill_(bad);
      const auto mixed = attend(valued);
      CHECK(!at::isfinite(mixed.select(1, 7)).any().item<bool>());
      CHECK(at::isfinite(mixed.narrow(1, 0, 7)).all().item<bool>());
    }
  }
}

TEST_CASE("Neither threads nor other queries nor the batch change a bit of attention", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(25);
  const auto heads = attention_heads(random, 2, 3, 411, 150, 40);
  const int before = at::get_num_threads();
  for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
    INFO(level);
    at::set_num_threads(1);
    const auto alone = cpu::blocked_attention(heads.q, heads.k, heads.v, false, value);
    for (const int threads : {2, 3}) {
      at::set_num_threads(threads);
      CHECK(at::equal(cpu::blocked_attention(heads.q, heads.k, heads.v, false, value), alone));
    }
    at::set_num_threads(before);
    const auto part = cpu::blocked_attention(heads.q.narrow(0, 1, 1).narrow(2, 100, 37), heads.k.narrow(0, 1, 1),
                                             heads.v.narrow(0, 1, 1), false, value);
    CHECK(at::equal(part, alone.narrow(0, 1, 1).narrow(2, 100, 37)));
  }
}

TEST_CASE("The CPU's table attends by blocks in inference, and by LibTorch where a graph is recorded", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(26);
  const auto heads = attention_heads(random, 1, 2, 300, 300, 40);
  const auto usual = at::scaled_dot_product_attention(heads.q, heads.k, heads.v);
  const auto attend = [](const Heads& h) { return ip2p::kernels_for(h.q).attention(h.q, h.k, h.v, false); };
  const bool by_blocks = cpu::blocked_attention_pays(heads.q, heads.v);
#ifdef __OPTIMIZE__
  CHECK(by_blocks == (ip2p::detail::cpu_level() != CpuLevel::baseline));
#endif
  CHECK(at::equal(attend(heads), by_blocks ? cpu::blocked_attention(heads.q, heads.k, heads.v) : usual));

  const auto leaf = [](const at::Tensor& x) { return x.detach().clone().requires_grad_(true); };
  const Heads leaves{leaf(heads.q), leaf(heads.k), leaf(heads.v)};
  const auto recorded = attend(leaves);
  CHECK(at::equal(recorded, at::scaled_dot_product_attention(leaves.q, leaves.k, leaves.v)));
  const auto gradients = ip2p::detail::gradients_of(recorded.sum(), {leaves.q, leaves.k, leaves.v});
  CHECK(gradients[2].abs().max().item<double>() > 0);
  {
    const at::NoGradGuard no_grad;
    CHECK(at::equal(attend(leaves), attend(heads)));
  }
  const Heads narrow{heads.q.to(at::kBFloat16), heads.k.to(at::kBFloat16), heads.v.to(at::kBFloat16)};
  CHECK(at::equal(attend(narrow), at::scaled_dot_product_attention(narrow.q, narrow.k, narrow.v)));
}
