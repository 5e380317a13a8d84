#include "ip2p/sampling/ddim.hpp"

#include "ip2p/sampling/euler.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"
#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("Ddim keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(Ddim{});
  testing::check_sampler(Ddim{.eta = 0.5});
}

TEST_CASE("Ddim equals diffusers' DDIMScheduler step by step", "[sampling]") {
  const auto schedule = [](const SchedulerConfig& config) {
    LinearSigmas levels = LinearSigmas::from_config(config);
    levels.unit_variance_start = true;
    return levels;
  };
  const auto sampler = [](const nlohmann::json& run, const LinearSigmas& levels) {
    return Ddim{.eta = run.value("eta", 0.0),
                .final_sigma = run["config"]["set_alpha_to_one"] ? 0.0 : levels.training.sigma_min()};
  };
  REQUIRE(testing::preserving_difference("ddim", 5, schedule, sampler) < 2e-6);
}

TEST_CASE("Ddim with eta 0 is Euler, with eta 1 EulerAncestral", "[sampling]") {
  const auto sigmas = testing::test_sigmas(5);
  const auto asked = testing::questions_of(Ddim{}, sigmas);
  REQUIRE(asked.draws.empty());
  REQUIRE(testing::same_bits(asked.result, testing::questions_of(Euler{}, sigmas).result));
  REQUIRE(testing::same_bits(testing::questions_of(Ddim{.eta = 1.0}, sigmas).result,
                             testing::questions_of(EulerAncestral{}, sigmas).result));
}

TEST_CASE("Ddim ends at final_sigma in the scale that a decoder of diffusers expects", "[sampling]") {
  // A point mass c: the noise of the last level shrinks to that of final_sigma, then all shrinks to unit variance.
  const std::vector<double> sigmas{4.0, 0.5, 0.0};
  const at::Tensor c = CounterNoise(1).normal({1, 4, 2, 2}, 0);
  const at::Tensor noise = CounterNoise(2).normal({1, 4, 2, 2}, 0);
  CounterNoise unused(1);
  const at::Tensor result =
      Ddim{.final_sigma = 0.2}.sample(testing::PointMassDenoiser(c), c.add(noise, 4.0), sigmas, unused);
  REQUIRE(testing::close(result, c.add(noise, 0.2).div(std::sqrt(1.04)), 1e-5));
}

TEST_CASE("Ddim refuses parameters out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(Ddim{.eta = 1.5}), Contains("Ddim: expected eta from 0 to 1, found 1.5"));
  REQUIRE_THROWS_WITH(testing::run_twice(Ddim{.eta = NAN}), Contains("found nan"));
  REQUIRE_THROWS_WITH(
      testing::run_twice(Ddim{.final_sigma = 0.05}),
      Contains("Ddim: expected final_sigma from 0 to the last noise level 0.0") && Contains("found 0.05"));
  REQUIRE_THROWS_WITH(testing::run_twice(Ddim{.final_sigma = -0.1}), Contains("found -0.1"));
}
