#include "ip2p/sampling/euler.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;

TEST_CASE("Euler keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(Euler{});
  testing::check_sampler(Euler{.churn = {.s_churn = 5.0, .s_noise = 1.003}});
}

TEST_CASE("Euler equals k-diffusion step by step", "[sampling]") {
  const auto count = testing::for_each_k_diffusion_run(
      "euler", [](const auto& run, PredictionType prediction, const auto& sigmas, const auto& shape) {
        REQUIRE(testing::run_difference(Euler{}, LogLinearSigmas{}, prediction, sigmas,
                                        run["seed"].template get<std::uint64_t>(), run["states"],
                                        shape) < testing::k_diffusion_rounding);
      });
  REQUIRE(count == 6);
}

TEST_CASE("Euler equals diffusers' EulerDiscreteScheduler step by step", "[sampling]") {
  REQUIRE(testing::diffusers_difference("euler", Euler{}) < 1e-6);
}

TEST_CASE("Euler with churn equals k-diffusion", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "euler", 2, [](const nlohmann::json& parameters) {
            return Euler{.churn = testing::churn_of(parameters)};
          }) < 1e-10);
}

TEST_CASE("Churn raises the noise level between its limits and draws nothing elsewhere", "[sampling]") {
  const std::vector<double> sigmas{10.0, 6.0, 3.0, 1.0, 0.0};
  const auto asked = testing::questions_of(Euler{.churn = {.s_churn = 0.8, .s_tmin = 2.0, .s_tmax = 6.0}}, sigmas);
  REQUIRE(asked.draws == std::vector<std::int64_t>{2, 3});
  REQUIRE(asked.sigmas == std::vector<double>{10.0, 6.0 * 1.2, 3.0 * 1.2, 1.0});
  // However large the amount, a level rises by sqrt(2) at most.
  const auto most = testing::questions_of(Euler{.churn = {.s_churn = 1000.0}}, sigmas);
  REQUIRE(most.draws == std::vector<std::int64_t>{1, 2, 3, 4});
  REQUIRE(most.sigmas.front() == Approx(10.0 * std::sqrt(2.0)));
  REQUIRE(testing::questions_of(Euler{}, sigmas).draws.empty());
}

TEST_CASE("Euler refuses churn out of range", "[sampling]") {
  using Catch::Matchers::Contains;
  const auto run = [](Churn churn) { testing::run_twice(Euler{.churn = churn}); };
  REQUIRE_THROWS_WITH(run({.s_churn = -1.0}), Contains("Euler: expected s_churn >= 0, found -1"));
  REQUIRE_THROWS_WITH(run({.s_tmin = NAN}), Contains("Euler: expected s_tmin >= 0, found nan"));
  REQUIRE_THROWS_WITH(run({.s_tmin = 2.0, .s_tmax = 1.0}), Contains("Euler: expected s_tmax >= s_tmin, found 1 and 2"));
  REQUIRE_THROWS_WITH(run({.s_noise = -0.5}), Contains("Euler: expected s_noise >= 0, found -0.5"));
}
