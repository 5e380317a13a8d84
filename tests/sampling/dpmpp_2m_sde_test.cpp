#include "ip2p/sampling/dpmpp_2m_sde.hpp"

#include "ip2p/sampling/dpmpp_2m.hpp"
#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

DpmPlusPlus2MSde dpmpp_2m_sde(const nlohmann::json& parameters) {
  return {.eta = parameters.value("eta", 1.0),
          .s_noise = parameters.value("s_noise", 1.0),
          .solver = parameters.value("solver_type", "midpoint") == "heun" ? SdeSolver::heun : SdeSolver::midpoint};
}

}  // namespace

TEST_CASE("DpmPlusPlus2MSde keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(DpmPlusPlus2MSde{});
  testing::check_sampler(DpmPlusPlus2MSde{.eta = 0.3, .s_noise = 1.1, .solver = SdeSolver::heun},
                         {.keeps_noise_level = false});
  testing::check_sampler(DpmPlusPlus2MSde{.eta = 0.0});
}

TEST_CASE("DpmPlusPlus2MSde equals k-diffusion and diffusers step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "dpm++-2m-sde", 8, dpmpp_2m_sde) < 1e-10);
  REQUIRE(testing::solver_difference("diffusers", "dpm++-2m-sde", 6, dpmpp_2m_sde) < 1e-5);
}

TEST_CASE("DpmPlusPlus2MSde with eta 0 is DpmPlusPlus2M and draws nothing", "[sampling]") {
  const auto sigmas = testing::test_sigmas(6);
  const auto asked = testing::questions_of(DpmPlusPlus2MSde{.eta = 0.0}, sigmas);
  REQUIRE(asked.draws.empty());
  REQUIRE(testing::close(asked.result, testing::questions_of(DpmPlusPlus2M{}, sigmas).result, 1e-5));
}

TEST_CASE("DpmPlusPlus2MSde draws noise once in each step except the last", "[sampling]") {
  const auto asked = testing::questions_of(DpmPlusPlus2MSde{}, {4.0, 2.0, 1.0, 0.0});
  REQUIRE(asked.sigmas == std::vector<double>{4.0, 2.0, 1.0});
  REQUIRE(asked.draws == std::vector<std::int64_t>{1, 2});
}

TEST_CASE("DpmPlusPlus2MSde reproduces mean and variance of normally distributed data", "[sampling]") {
  for (const SdeSolver solver : {SdeSolver::midpoint, SdeSolver::heun}) {
    const auto [mean, deviation] = testing::moments(DpmPlusPlus2MSde{.solver = solver}, testing::test_sigmas(100));
    // Four standard errors of 65,536 values are .011 and .008; the rest is the bias of 100 steps.
    REQUIRE(mean == Approx(0.4).margin(0.015));
    REQUIRE(deviation == Approx(0.7).margin(0.015));
  }
}

TEST_CASE("DpmPlusPlus2MSde refuses parameters out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(DpmPlusPlus2MSde{.eta = -1.0}),
                      Contains("DpmPlusPlus2MSde: expected eta >= 0, found -1"));
  REQUIRE_THROWS_WITH(testing::run_twice(DpmPlusPlus2MSde{.s_noise = -1.0}),
                      Contains("DpmPlusPlus2MSde: expected s_noise >= 0, found -1"));
}
