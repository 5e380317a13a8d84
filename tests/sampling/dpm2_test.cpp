#include "ip2p/sampling/dpm2.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

Dpm2 dpm2_of(const nlohmann::json& parameters) { return {.churn = testing::churn_of(parameters)}; }

}  // namespace

TEST_CASE("Dpm2 keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(Dpm2{});
  testing::check_sampler(Dpm2{.churn = {.s_churn = 5.0, .s_noise = 1.003}});
}

TEST_CASE("Dpm2 equals k-diffusion and diffusers step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "dpm2", 4, dpm2_of) < 1e-10);
  REQUIRE(testing::solver_difference("diffusers", "dpm2", 2, dpm2_of) < 1e-6);
}

TEST_CASE("Dpm2 evaluates at the geometric mean of a step's levels, and once in the last", "[sampling]") {
  const auto asked = testing::questions_of(Dpm2{}, {16.0, 4.0, 1.0, 0.0});
  REQUIRE(asked.sigmas == std::vector<double>{16.0, 8.0, 4.0, 2.0, 1.0});
  REQUIRE(asked.steps == std::vector<std::int64_t>{0, 0, 1, 1, 2});
  REQUIRE(asked.draws.empty());
}

TEST_CASE("Dpm2 refuses churn out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(Dpm2{.churn = {.s_noise = -1.0}}),
                      Contains("Dpm2: expected s_noise >= 0, found -1"));
}
