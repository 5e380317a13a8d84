#include "ip2p/core/philox_noise.hpp"

#include <ATen/ops/tensor.h>

#include <string>

#include "ip2p/core/any_noise.hpp"
#include "ip2p/testing/check_noise.hpp"
#include "support/golden.hpp"

using namespace ip2p;
using ip2p::testing::golden;
using ip2p::testing::golden_tensor;
using ip2p::testing::largest_difference;
using ip2p::testing::same_bits;

namespace {

/// The sine and cosine of a GPU's fast instructions are off by 2^-21; a radius is at most 6.7.
constexpr double fast_sine = 4e-6;

/// Another library's exact sine.
constexpr double exact_sine = 2e-6;

}  // namespace

TEST_CASE("PhiloxNoise begins as torch's CUDA generator does on a GPU", "[core]") {
  // torch.manual_seed(0); torch.randn(3, 4, device="cuda"), as published by several projects.
  const at::Tensor published = at::tensor({-0.92466259, -0.42534415, -2.6438457, 0.14518388, -0.12086647, -0.57972564,
                                           -0.62285122, -0.32838709, -1.07454231, -0.36314407, -1.67105067, 2.26550497},
                                          at::kDouble)
                                   .reshape({3, 4});
  REQUIRE(largest_difference(PhiloxNoise(0).normal({3, 4}, 0), published) <= fast_sine);
  // Tensors with no more elements than there are threads begin alike, whatever their size and the GPU.
  for (const GpuThreads gpu : {GpuThreads{}, GpuThreads{132, 2048}, GpuThreads{10, 2048}}) {
    const at::Tensor latents = PhiloxNoise(0, gpu).normal({1, 4, 64, 64}, 0);
    REQUIRE(largest_difference(latents.flatten().narrow(0, 0, 12).reshape({3, 4}), published) <= fast_sine);
  }
}

TEST_CASE("PhiloxNoise is cuRAND's stream in the order of torch's kernel", "[core]") {
  const auto fixture = golden("core/fixtures/cuda_noise.json");
  REQUIRE(fixture["streams"].size() == 6);
  for (const auto& stream : fixture["streams"]) {
    const auto gpu = stream["gpu"].get<std::vector<std::int64_t>>();
    PhiloxNoise noise(std::stoull(stream["seed"].get<std::string>()), GpuThreads{gpu.at(0), gpu.at(1)});
    std::int64_t draw = 0;
    for (const auto& expected : stream["draws"]) {
      const auto count = expected["count"].get<std::int64_t>();
      const auto every = expected["every"].get<std::int64_t>();
      INFO("seed " << stream["seed"] << ", draw " << draw << " of " << count);
      const at::Tensor found = noise.normal({1, count}, draw++).flatten().slice(0, 0, count, every);
      REQUIRE(largest_difference(found, golden_tensor(expected["values"], {found.numel()})) <= exact_sine);
    }
  }
}

TEST_CASE("PhiloxNoise with a seed for each sample draws each sample by itself", "[core]") {
  PhiloxNoise batch(std::vector<std::uint64_t>{5, 6, 5});
  PhiloxNoise five(5);
  PhiloxNoise six(6);
  for (std::int64_t draw = 0; draw < 3; ++draw) {
    const at::Tensor noise = batch.normal({3, 4, 9}, draw);
    const at::Tensor alone = five.normal({1, 4, 9}, draw);
    REQUIRE(same_bits(noise.narrow(0, 0, 1), alone));
    REQUIRE(same_bits(noise.narrow(0, 1, 1), six.normal({1, 4, 9}, draw)));
    REQUIRE(same_bits(noise.narrow(0, 2, 1), alone));
  }
  // With one seed, the samples of a batch follow each other in one stream.
  const at::Tensor whole = PhiloxNoise(5).normal({2, 4, 9}, 0);
  REQUIRE(same_bits(whole.flatten(), PhiloxNoise(5).normal({72}, 0)));
  REQUIRE_FALSE(same_bits(whole.narrow(0, 0, 1), whole.narrow(0, 1, 1)));
}

TEST_CASE("PhiloxNoise and AnyNoise keep the laws", "[core]") {
  ip2p::testing::check_noise(PhiloxNoise(1));
  ip2p::testing::check_noise(PhiloxNoise(1, {1, 256}), 3);
  ip2p::testing::check_noise(PhiloxNoise(std::vector<std::uint64_t>{1, 2, 3}), 3);
  for (const auto name : AnyNoise::names()) {
    ip2p::testing::check_noise(AnyNoise::named(name, {1}));
    ip2p::testing::check_noise(AnyNoise::named(name, {1, 2, 3}), 3);
  }
}

TEST_CASE("PhiloxNoise refuses requests that it cannot answer", "[core]") {
  using Catch::Matchers::Contains;
  REQUIRE_THROWS_WITH(PhiloxNoise(std::vector<std::uint64_t>{}), Contains("expected at least one seed, found none"));
  REQUIRE_THROWS_WITH(PhiloxNoise(1, {0, 2048}), Contains("at least one multiprocessor of 256 threads or more"));
  REQUIRE_THROWS_WITH(PhiloxNoise(1, {8, 255}), Contains("found 8 of 255"));
  REQUIRE_THROWS_WITH(PhiloxNoise(std::vector<std::uint64_t>{1, 2}).normal({3, 4}, 0),
                      Contains("one for each of the 3 samples, found 2 seeds"));
  REQUIRE_THROWS_WITH(PhiloxNoise(1).normal({}, 0), Contains("expected [B, ...], found a scalar"));
  REQUIRE_THROWS_WITH(PhiloxNoise(1).normal({2}, -1), Contains("expected a number >= 0, found -1"));
  // An empty tensor leaves the stream where it is, as on a GPU.
  PhiloxNoise noise(1);
  REQUIRE(noise.normal({0, 4}, 0).numel() == 0);
  REQUIRE(same_bits(noise.normal({4}, 1), PhiloxNoise(1).normal({4}, 0)));
}

TEST_CASE("AnyNoise is the source of the given name", "[core]") {
  const std::vector<std::uint64_t> one{9};
  const std::vector<std::uint64_t> two{9, 10};
  AnyNoise torch = AnyNoise::named("torch", two);
  AnyNoise cuda = AnyNoise::named("cuda", two);
  AnyNoise counter = AnyNoise::named("counter", two);
  REQUIRE(torch.name() == "torch");
  REQUIRE(cuda.name() == "cuda");
  REQUIRE(counter.name() == "counter");
  REQUIRE(same_bits(torch.normal({2, 4, 5}, 0), TorchNoise(two).normal({2, 4, 5}, 0)));
  REQUIRE(same_bits(cuda.normal({2, 4, 5}, 0), PhiloxNoise(two).normal({2, 4, 5}, 0)));
  REQUIRE(same_bits(counter.normal({2, 4, 5}, 3), CounterNoise(two).normal({2, 4, 5}, 3)));
  for (const auto name : AnyNoise::names()) {
    REQUIRE(AnyNoise::named(name, one).normal({3, 2}, 0).size(0) == 3);  // one seed, a batch of any size
    REQUIRE_THROWS_WITH(AnyNoise::named(name, {}), Catch::Matchers::Contains("expected at least one seed"));
  }
  AnyNoise own = TorchNoise(4);
  REQUIRE(same_bits(own.normal({20}, 0), TorchNoise(4).normal({20}, 0)));
  REQUIRE_THROWS_WITH(AnyNoise::named("philox", one),
                      Catch::Matchers::Contains("noise: expected one of torch, cuda, counter, found \"philox\""));
}

TEST_CASE("discard_draw leaves a source where the draw would have left it", "[core]") {
  for (const auto name : AnyNoise::names()) {
    AnyNoise whole = AnyNoise::named(name, {3});
    AnyNoise resumed = AnyNoise::named(name, {3});
    const at::Tensor start = whole.normal({1, 4, 6, 6}, 0);
    discard_draw(resumed, {1, 4, 6, 6}, 0);
    const at::Tensor first = whole.normal({1, 4, 6, 6}, 1);
    REQUIRE(same_bits(resumed.normal({1, 4, 6, 6}, 1), first));
    REQUIRE_FALSE(same_bits(first, start));
  }
}
