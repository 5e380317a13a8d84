#include "ip2p/sampling/dpmpp_2s_ancestral.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

DpmPlusPlus2SAncestral dpmpp_2s_ancestral(const nlohmann::json& parameters) {
  return {.eta = parameters.value("eta", 1.0), .s_noise = parameters.value("s_noise", 1.0)};
}

}  // namespace

TEST_CASE("DpmPlusPlus2SAncestral keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(DpmPlusPlus2SAncestral{});
  testing::check_sampler(DpmPlusPlus2SAncestral{.eta = 0.3, .s_noise = 1.1}, {.keeps_noise_level = false});
  testing::check_sampler(DpmPlusPlus2SAncestral{.eta = 0.0});
}

TEST_CASE("DpmPlusPlus2SAncestral equals k-diffusion, and with eta 0 diffusers, step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "dpm++-2s-ancestral", 6, dpmpp_2s_ancestral) < 1e-10);
  REQUIRE(testing::solver_difference("diffusers", "dpm++-2s-ancestral", 1, dpmpp_2s_ancestral) < 1e-5);
}

TEST_CASE("DpmPlusPlus2SAncestral evaluates at the geometric mean of a step's levels, and once in the last",
          "[sampling]") {
  const auto asked = testing::questions_of(DpmPlusPlus2SAncestral{.eta = 0.0}, {16.0, 4.0, 1.0, 0.0});
  REQUIRE(asked.sigmas == std::vector<double>{16.0, 8.0, 4.0, 2.0, 1.0});
  REQUIRE(asked.draws.empty());
  REQUIRE(testing::questions_of(DpmPlusPlus2SAncestral{}, {16.0, 4.0, 1.0, 0.0}).draws ==
          std::vector<std::int64_t>{1, 2});
}

TEST_CASE("DpmPlusPlus2SAncestral reproduces mean and variance of normally distributed data", "[sampling]") {
  const auto [mean, deviation] = testing::moments(DpmPlusPlus2SAncestral{}, testing::test_sigmas(100));
  // Four standard errors of 65,536 values are .011 and .008; the rest is the bias of 100 steps.
  REQUIRE(mean == Approx(0.4).margin(0.015));
  REQUIRE(deviation == Approx(0.7).margin(0.015));
}

TEST_CASE("DpmPlusPlus2SAncestral refuses parameters out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(DpmPlusPlus2SAncestral{.eta = -1.0}),
                      Contains("DpmPlusPlus2SAncestral: expected eta >= 0, found -1"));
  REQUIRE_THROWS_WITH(testing::run_twice(DpmPlusPlus2SAncestral{.s_noise = NAN}),
                      Contains("DpmPlusPlus2SAncestral: expected s_noise >= 0, found nan"));
}
