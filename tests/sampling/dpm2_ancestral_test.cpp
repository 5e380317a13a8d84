#include "ip2p/sampling/dpm2_ancestral.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("Dpm2Ancestral keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(Dpm2Ancestral{});
  testing::check_sampler(Dpm2Ancestral{.eta = 0.3, .s_noise = 1.1}, {.keeps_noise_level = false});
}

TEST_CASE("Dpm2Ancestral equals k-diffusion step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "dpm2-ancestral", 4, [](const nlohmann::json& parameters) {
            return Dpm2Ancestral{.eta = parameters.value("eta", 1.0), .s_noise = parameters.value("s_noise", 1.0)};
          }) < 1e-10);
}

TEST_CASE("Dpm2Ancestral with eta 0 is Dpm2 and draws nothing", "[sampling]") {
  const auto sigmas = testing::test_sigmas(5);
  const auto asked = testing::questions_of(Dpm2Ancestral{.eta = 0.0}, sigmas);
  REQUIRE(asked.draws.empty());
  REQUIRE(testing::same_bits(asked.result, testing::questions_of(Dpm2{}, sigmas).result));
}

TEST_CASE("Dpm2Ancestral adds the noise of a step whose deterministic part ends at 0", "[sampling]") {
  // eta so large that all of the next level is fresh noise.
  REQUIRE(testing::questions_of(Dpm2Ancestral{.eta = 50.0}, {4.0, 2.0, 1.0, 0.0}).draws ==
          std::vector<std::int64_t>{1, 2});
}

TEST_CASE("Dpm2Ancestral reproduces mean and variance of normally distributed data", "[sampling]") {
  const auto [mean, deviation] = testing::moments(Dpm2Ancestral{}, testing::test_sigmas(100));
  // Four standard errors of 65,536 values are .011 and .008; the rest is the bias of 100 steps.
  REQUIRE(mean == Approx(0.4).margin(0.015));
  REQUIRE(deviation == Approx(0.7).margin(0.015));
}

TEST_CASE("Dpm2Ancestral refuses parameters out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(Dpm2Ancestral{.eta = -1.0}),
                      Contains("Dpm2Ancestral: expected eta >= 0, found -1"));
  REQUIRE_THROWS_WITH(testing::run_twice(Dpm2Ancestral{.s_noise = INFINITY}),
                      Contains("Dpm2Ancestral: expected s_noise >= 0, found inf"));
}
