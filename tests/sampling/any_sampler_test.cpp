#include "ip2p/sampling/any_sampler.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "support/catch.hpp"

using namespace ip2p;

TEST_CASE("AnySampler behaves like the sampler of the given name", "[sampling]") {
  const auto sigmas = testing::test_sigmas(5);
  const at::Tensor x = CounterNoise(2).normal({1, 4, 2, 2}, 0).mul(sigmas.front());
  const auto run = [&](const auto& sampler) {
    TorchNoise noise(3);
    return sampler.sample(testing::GaussianDenoiser{}, x, sigmas, noise);
  };
  REQUIRE(AnySampler::names().size() == 14);
  for (const std::string_view name : AnySampler::names()) {
    INFO(name);
    REQUIRE(AnySampler::named(name).name() == name);
    testing::check_sampler(AnySampler::named(name));
  }
  REQUIRE(testing::same_bits(run(AnySampler::named("euler")), run(Euler{})));
  REQUIRE(testing::same_bits(run(AnySampler::named("euler-ancestral")), run(EulerAncestral{})));
  REQUIRE(testing::same_bits(run(AnySampler::named("dpm++-2m")), run(DpmPlusPlus2M{})));
  REQUIRE(testing::same_bits(run(AnySampler(EulerAncestral{.eta = 0.5})), run(EulerAncestral{.eta = 0.5})));
  REQUIRE_FALSE(testing::same_bits(run(Euler{}), run(EulerAncestral{})));
}

TEST_CASE("AnySampler lists the names it knows", "[sampling]") {
  REQUIRE_THROWS_WITH(AnySampler::named("euler_a"),
                      "sampler: expected one of euler-ancestral, euler, heun, dpm2, dpm2-ancestral, lms, dpm++-2m, "
                      "dpm++-2s-ancestral, dpm++-2m-sde, dpm++-3m-sde, unipc, ddim, ddpm, lcm, found \"euler_a\"");
}
