#include "ip2p/sampling/ddpm.hpp"

#include "ip2p/sampling/euler_ancestral.hpp"
#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("Ddpm keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(Ddpm{});
  testing::check_sampler(Ddpm{.variance = DdpmVariance::fixed_large}, {.keeps_noise_level = false});
}

TEST_CASE("Ddpm equals diffusers' DDPMScheduler step by step", "[sampling]") {
  const auto schedule = [](const SchedulerConfig& config) {
    LinearSigmas levels = LinearSigmas::from_config(config);
    levels.unit_variance_start = true;
    return levels;
  };
  const auto sampler = [](const nlohmann::json& run, const LinearSigmas& /*levels*/) {
    const bool large = run["config"].value("variance_type", "fixed_small") == "fixed_large";
    return Ddpm{.variance = large ? DdpmVariance::fixed_large : DdpmVariance::fixed_small};
  };
  REQUIRE(testing::preserving_difference("ddpm", 3, schedule, sampler) < 2e-6);
}

TEST_CASE("Ddpm with the small variance is EulerAncestral", "[sampling]") {
  const auto sigmas = testing::test_sigmas(5);
  const auto asked = testing::questions_of(Ddpm{}, sigmas);
  REQUIRE(asked.draws == std::vector<std::int64_t>{1, 2, 3, 4});
  REQUIRE(testing::same_bits(asked.result, testing::questions_of(EulerAncestral{}, sigmas).result));
}

TEST_CASE("Ddpm reproduces mean and variance of normally distributed data", "[sampling]") {
  // For data of variance 1, the large variance is exact in any number of steps, and the small one is too small in few.
  const testing::GaussianDenoiser unit{.mean = 0.0, .deviation = 1.0};
  const Ddpm large{.variance = DdpmVariance::fixed_large};
  const auto [mean, deviation] = testing::moments(large, testing::test_sigmas(8), unit);
  // Four standard errors of 65,536 values; the last step removes a variance of .03^2.
  REQUIRE(mean == Approx(0.0).margin(0.016));
  REQUIRE(deviation == Approx(1.0).margin(0.012));
  REQUIRE(testing::moments(Ddpm{}, testing::test_sigmas(8), unit).second < 0.9);
  const auto many = testing::moments(Ddpm{}, testing::test_sigmas(300));
  REQUIRE(many.first == Approx(0.4).margin(0.012));
  REQUIRE(many.second == Approx(0.7).margin(0.02));
}
