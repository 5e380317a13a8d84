#include "ip2p/sampling/dpmpp_3m_sde.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

DpmPlusPlus3MSde dpmpp_3m_sde(const nlohmann::json& parameters) {
  return {.eta = parameters.value("eta", 1.0), .s_noise = parameters.value("s_noise", 1.0)};
}

}  // namespace

TEST_CASE("DpmPlusPlus3MSde keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(DpmPlusPlus3MSde{});
  testing::check_sampler(DpmPlusPlus3MSde{.eta = 0.3, .s_noise = 1.1, .curvature = 2.0}, {.keeps_noise_level = false});
  testing::check_sampler(DpmPlusPlus3MSde{.eta = 0.0});
}

TEST_CASE("DpmPlusPlus3MSde equals k-diffusion, and with eta 0 diffusers, step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "dpm++-3m-sde", 6, dpmpp_3m_sde) < 1e-10);
  REQUIRE(testing::solver_difference("diffusers", "dpm++-3m-sde", 2, dpmpp_3m_sde) < 1e-5);
}

TEST_CASE("DpmPlusPlus3MSde draws noise once in each step except the last, and none with eta 0", "[sampling]") {
  const auto asked = testing::questions_of(DpmPlusPlus3MSde{}, {4.0, 2.0, 1.0, 0.5, 0.0});
  REQUIRE(asked.sigmas == std::vector<double>{4.0, 2.0, 1.0, 0.5});
  REQUIRE(asked.draws == std::vector<std::int64_t>{1, 2, 3});
  REQUIRE(testing::questions_of(DpmPlusPlus3MSde{.eta = 0.0}, {4.0, 2.0, 1.0, 0.5, 0.0}).draws.empty());
}

TEST_CASE("DpmPlusPlus3MSde reproduces mean and variance of normally distributed data", "[sampling]") {
  const auto [mean, deviation] = testing::moments(DpmPlusPlus3MSde{}, testing::test_sigmas(100));
  // Four standard errors of 65,536 values are .011 and .008; the rest is the bias of 100 steps.
  REQUIRE(mean == Approx(0.4).margin(0.015));
  REQUIRE(deviation == Approx(0.7).margin(0.015));
}

TEST_CASE("DpmPlusPlus3MSde refuses parameters out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(DpmPlusPlus3MSde{.eta = -1.0}),
                      Contains("DpmPlusPlus3MSde: expected eta >= 0, found -1"));
  REQUIRE_THROWS_WITH(testing::run_twice(DpmPlusPlus3MSde{.s_noise = NAN}),
                      Contains("DpmPlusPlus3MSde: expected s_noise >= 0, found nan"));
  REQUIRE_THROWS_WITH(testing::run_twice(DpmPlusPlus3MSde{.curvature = -2.0}),
                      Contains("DpmPlusPlus3MSde: expected curvature >= 0, found -2"));
}
