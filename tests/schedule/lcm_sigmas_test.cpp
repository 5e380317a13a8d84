#include "ip2p/schedule/lcm_sigmas.hpp"

#include "ip2p/testing/check_schedule.hpp"
#include "schedule/preserving.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("LcmSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(LcmSigmas{}, {1, 2, 4, 8, 50});
}

TEST_CASE("LcmSigmas agrees with diffusers' LCMScheduler", "[schedule]") {
  testing::require_preserving("lcm", 9, [](const nlohmann::json& json, const SchedulerConfig& config) {
    LcmSigmas schedule = LcmSigmas::from_config(config);
    schedule.original_steps = json.value("original_inference_steps", 50);
    return schedule;
  });
}

TEST_CASE("LcmSigmas refuses steps out of range", "[schedule]") {
  REQUIRE_THROWS_WITH(LcmSigmas{}.sigmas(51), "steps: expected at most the 50 of the distillation, found 51");
  REQUIRE_THROWS_WITH(LcmSigmas{.original_steps = 0}.sigmas(1),
                      "LcmSigmas: expected original_steps from 1 to the model's 1000 training timesteps, found 0");
  REQUIRE_THROWS_WITH(LcmSigmas{.original_steps = 1001}.sigmas(1), Contains("found 1001"));
  REQUIRE_THROWS_WITH(LcmSigmas{}.initial_sigma({}), "sigmas: expected at least one value, found none");
}
