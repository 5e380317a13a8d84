#include "ip2p/schedule/linear_sigmas.hpp"

#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/testing/check_schedule.hpp"
#include "schedule/preserving.hpp"

using namespace ip2p;

TEST_CASE("LinearSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(LinearSigmas{});
  testing::check_schedule(LinearSigmas{.spacing = TimestepSpacing::leading, .steps_offset = 1});
  testing::check_schedule(LinearSigmas{.spacing = TimestepSpacing::trailing}, {1, 2, 3, 48, 61, 100, 1000});
}

TEST_CASE("LinearSigmas agrees with diffusers' Euler schedulers over their configurations", "[schedule]") {
  const auto fixture = testing::golden("schedule/fixtures/schedules.json")["diffusers"];
  REQUIRE(fixture.size() == 68);
  for (const auto& entry : fixture) {
    INFO(entry["config"] << ", " << entry["n"] << " steps");
    const auto schedule = LinearSigmas::from_config(scheduler_config_from_json(entry["config"], "fixture"));
    const auto n = entry["n"].get<std::int64_t>();
    const auto sigmas = schedule.sigmas(n);
    // diffusers rescales to zero SNR in fp32, where differences of nearly equal numbers lose digits.
    const bool rescaled = entry["config"].contains("rescale_betas_zero_snr");
    REQUIRE(testing::relative_difference(sigmas, entry["sigmas"].get<std::vector<double>>()) <
            (rescaled ? 1e-3 : 1e-6));
    REQUIRE(testing::relative_difference(schedule.timesteps(n), entry["timesteps"].get<std::vector<double>>()) < 1e-7);
    REQUIRE(initial_sigma(schedule, sigmas) == Approx(entry["initial"].get<double>()).epsilon(rescaled ? 1e-3 : 1e-6));
  }
}

TEST_CASE("LinearSigmas with a start of unit variance agrees with diffusers' DDIMScheduler", "[schedule]") {
  testing::require_preserving("ddim", 13, [](const nlohmann::json& /*json*/, const SchedulerConfig& config) {
    LinearSigmas schedule = LinearSigmas::from_config(config);
    schedule.unit_variance_start = true;
    return schedule;
  });
  for (const auto spacing : {TimestepSpacing::linspace, TimestepSpacing::leading, TimestepSpacing::trailing}) {
    const LinearSigmas schedule{.spacing = spacing, .unit_variance_start = true};
    REQUIRE(initial_sigma(schedule, {3.0, 0.0}) == Approx(std::sqrt(10.0)));
  }
}

TEST_CASE("LinearSigmas gives the network the timesteps that it visits", "[schedule]") {
  for (const auto spacing : {TimestepSpacing::linspace, TimestepSpacing::leading, TimestepSpacing::trailing}) {
    const LinearSigmas schedule{.spacing = spacing};
    const auto times = schedule.timesteps(30);
    const auto sigmas = schedule.sigmas(30);
    for (std::size_t i = 0; i < times.size(); ++i) {
      REQUIRE(schedule.sigma_to_t(sigmas[i]) == Approx(times[i]).margin(1e-9));
    }
  }
}

TEST_CASE("LinearSigmas refuses more steps than there are timesteps", "[schedule]") {
  using Catch::Matchers::Contains;
  const LinearSigmas leading{.spacing = TimestepSpacing::leading};
  REQUIRE_THROWS_WITH(leading.sigmas(1001), Contains("at most the model's 1000 training timesteps, found 1001"));
  REQUIRE_THROWS_WITH((LinearSigmas{.spacing = TimestepSpacing::leading, .steps_offset = 1}.sigmas(1000)),
                      Contains("expected distinct timesteps, found 999 twice"));
  REQUIRE_THROWS_WITH(LinearSigmas{.steps_offset = -1}.sigmas(10), Contains("expected steps_offset >= 0, found -1"));
  REQUIRE_THROWS_WITH(LinearSigmas{}.sigma_to_t(NAN), Contains("found nan"));
}
