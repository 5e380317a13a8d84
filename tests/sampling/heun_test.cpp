#include "ip2p/sampling/heun.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

Heun heun_of(const nlohmann::json& parameters) { return {.churn = testing::churn_of(parameters)}; }

}  // namespace

TEST_CASE("Heun keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(Heun{});
  testing::check_sampler(Heun{.churn = {.s_churn = 5.0, .s_noise = 1.003}});
}

TEST_CASE("Heun equals k-diffusion and diffusers step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "heun", 6, heun_of) < 1e-10);
  REQUIRE(testing::solver_difference("diffusers", "heun", 2, heun_of) < 1e-6);
}

TEST_CASE("Heun evaluates at both ends of a step, and once in the last", "[sampling]") {
  const auto asked = testing::questions_of(Heun{}, {4.0, 2.0, 1.0, 0.0});
  REQUIRE(asked.sigmas == std::vector<double>{4.0, 2.0, 2.0, 1.0, 1.0});
  REQUIRE(asked.steps == std::vector<std::int64_t>{0, 0, 1, 1, 2});
  REQUIRE(asked.draws.empty());
}

TEST_CASE("Heun with churn reproduces mean and variance of normally distributed data", "[sampling]") {
  const auto [mean, deviation] = testing::moments(Heun{.churn = {.s_churn = 20.0}}, testing::test_sigmas(60));
  // Four standard errors of 65,536 values; the steps themselves err by less than .002.
  REQUIRE(mean == Approx(0.4).margin(0.012));
  REQUIRE(deviation == Approx(0.7).margin(0.010));
}

TEST_CASE("Heun refuses churn out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(Heun{.churn = {.s_churn = -1.0}}),
                      Contains("Heun: expected s_churn >= 0, found -1"));
}
