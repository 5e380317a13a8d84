#include "ip2p/core/random.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include <string>

#include "ip2p/testing/check_noise.hpp"
#include "support/golden.hpp"

using namespace ip2p;
using ip2p::testing::golden;
using ip2p::testing::golden_tensor;
using ip2p::testing::largest_difference;
using ip2p::testing::same_bits;

namespace {

// LibTorch's vectorised rule for 16 and more elements approximates log and cos by instruction set: the last bits of
// fixtures made on one CPU may differ on another. Below 16 elements it computes in double, and the bits are the same.
constexpr double last_bits = 1e-6;

std::uint64_t seed_of(const nlohmann::json& entry) { return std::stoull(entry["seed"].get<std::string>()); }

}  // namespace

TEST_CASE("TorchNoise replays torch's CPU generator for any sequence of shapes", "[core]") {
  const auto fixture = golden("core/fixtures/noise.json");
  REQUIRE(fixture["torch"].size() == 6);
  for (const auto& stream : fixture["torch"]) {
    TorchNoise noise(seed_of(stream));
    std::int64_t draw = 0;
    for (const auto& expected : stream["draws"]) {
      const auto shape = expected["shape"].get<std::vector<std::int64_t>>();
      const at::Tensor found = noise.normal(shape, draw++);
      INFO("seed " << seed_of(stream) << ", draw " << draw - 1 << ", shape " << shape_text(shape));
      const at::Tensor values = golden_tensor(expected["values"], shape);
      REQUIRE(largest_difference(found, values) <= (found.numel() < 16 ? 0.0 : last_bits));
    }
  }
}

TEST_CASE("TorchNoise with a seed for each sample equals diffusers' list of generators", "[core]") {
  const auto fixture = golden("core/fixtures/noise.json");
  for (const auto& entry : fixture["randn_tensor"]) {
    const auto shape = entry["shape"].get<std::vector<std::int64_t>>();
    TorchNoise noise(entry["seeds"].get<std::vector<std::uint64_t>>());
    std::int64_t draw = 0;
    for (const auto& expected : entry["draws"]) {
      REQUIRE(largest_difference(noise.normal(shape, draw++), golden_tensor(expected, shape)) <= last_bits);
    }
  }
}

TEST_CASE("TorchNoise continues existing generators without advancing them", "[core]") {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(7);
  TorchNoise reference(7);
  (void)at::randn({5}, generator, at::TensorOptions(at::kFloat));
  (void)reference.normal({5}, 0);
  TorchNoise continued(std::vector<at::Generator>{generator});
  TorchNoise again(std::vector<at::Generator>{generator});
  const at::Tensor expected = reference.normal({2, 3}, 1);
  REQUIRE(same_bits(continued.normal({2, 3}, 1), expected));
  REQUIRE(same_bits(again.normal({2, 3}, 1), expected));
}

TEST_CASE("CounterNoise is Philox4x32-10 and Box-Muller over (seed, draw, sample)", "[core]") {
  const auto fixture = golden("core/fixtures/noise.json");
  REQUIRE(fixture["counter"].size() == 6);
  for (const auto& entry : fixture["counter"]) {
    const auto count = static_cast<std::int64_t>(entry["values"].size());
    const CounterNoise noise(seed_of(entry), entry["sample"].get<std::uint32_t>());
    const at::Tensor found = noise.normal({1, count}, entry["draw"].get<std::int64_t>());
    REQUIRE(largest_difference(found, golden_tensor(entry["values"], {1, count})) <= 1e-7);
  }
}

TEST_CASE("CounterNoise of a sample depends on neither its batch nor earlier draws", "[core]") {
  const CounterNoise noise(std::vector<std::uint64_t>{5, 6, 5});
  const at::Tensor batch = noise.normal({3, 4, 3, 3}, 2);
  REQUIRE(same_bits(batch.narrow(0, 0, 1), CounterNoise(5).normal({1, 4, 3, 3}, 2)));
  REQUIRE(same_bits(batch.narrow(0, 1, 1), CounterNoise(6).normal({1, 4, 3, 3}, 2)));
  REQUIRE(same_bits(batch.narrow(0, 2, 1), batch.narrow(0, 0, 1)));

  const at::Tensor whole = CounterNoise(9).normal({4, 7}, 1);
  const at::Tensor halves = at::cat({CounterNoise(9).normal({2, 7}, 1), CounterNoise(9, 2).normal({2, 7}, 1)});
  REQUIRE(same_bits(whole, halves));
  REQUIRE_FALSE(same_bits(whole.narrow(0, 0, 1), whole.narrow(0, 1, 1)));
}

TEST_CASE("The noise sources keep the laws", "[core]") {
  ip2p::testing::check_noise(TorchNoise(1));
  ip2p::testing::check_noise(TorchNoise(1), 3);
  ip2p::testing::check_noise(TorchNoise(std::vector<std::uint64_t>{1, 2, 3}), 3);
  ip2p::testing::check_noise(CounterNoise(1), 3);
  ip2p::testing::check_noise(CounterNoise(std::vector<std::uint64_t>{1, 2, 3}), 3);
}

TEST_CASE("The noise sources refuse requests that they cannot answer", "[core]") {
  using Catch::Matchers::Contains;
  REQUIRE_THROWS_WITH(TorchNoise::from_seeds({4294967338U}),
                      Contains("expected at most 4294967295") && Contains("which would be the same as 42"));
  REQUIRE_THROWS_WITH(TorchNoise(std::vector<std::uint64_t>{}), Contains("expected at least one seed, found none"));
  REQUIRE_THROWS_WITH(CounterNoise(std::vector<std::uint64_t>{}), Contains("expected at least one seed, found none"));
  REQUIRE_THROWS_WITH(TorchNoise(std::vector<std::uint64_t>{1, 2}).normal({3, 4}, 0),
                      Contains("one for each of the 3 samples, found 2 seeds"));
  REQUIRE_THROWS_WITH(CounterNoise(std::vector<std::uint64_t>{1}).normal({3, 4}, 0),
                      Contains("one seed for each of the 3 samples, found 1 seeds"));
  REQUIRE_THROWS_WITH(TorchNoise(1).normal({}, 0), Contains("expected [B, ...], found a scalar"));
  REQUIRE_THROWS_WITH(TorchNoise(1).normal({2, -1}, 0), Contains("expected sizes >= 0, found [2, -1]"));
  REQUIRE_THROWS_WITH(CounterNoise(1).normal({2}, -1), Contains("expected a number >= 0, found -1"));
  REQUIRE_THROWS_WITH(CounterNoise(1).normal({2}, std::int64_t{1} << 32), Contains("below 2^32"));
  REQUIRE_THROWS_WITH(CounterNoise(1, 4294967295U).normal({2}, 0), Contains("exceeds 32 bits"));
  REQUIRE(CounterNoise(1).normal({0, 4}, 0).numel() == 0);
}
