#include "ip2p/schedule/any_schedule.hpp"

#include "ip2p/testing/check_schedule.hpp"
#include "support/catch.hpp"

using namespace ip2p;

TEST_CASE("AnySchedule behaves like the schedule of the given name", "[schedule]") {
  for (const std::string_view name : AnySchedule::names()) {
    const auto schedule = AnySchedule::named(name);
    REQUIRE(schedule.name() == name);
    testing::check_schedule(schedule, {1, 2, 3, 10, 50});
  }
  REQUIRE(AnySchedule::named("log-linear").sigmas(20) == LogLinearSigmas{}.sigmas(20));
  REQUIRE(AnySchedule::named("karras").sigmas(20) == KarrasSigmas{}.sigmas(20));
  REQUIRE(AnySchedule::named("exponential").sigmas(20) == ExponentialSigmas{}.sigmas(20));
  REQUIRE(AnySchedule::named("polyexponential").sigmas(20) == PolyexponentialSigmas{}.sigmas(20));
  REQUIRE(AnySchedule::named("align-your-steps").sigmas(20) == AlignYourStepsSigmas{}.sigmas(20));
  REQUIRE(AnySchedule::named("lcm").sigmas(4) == LcmSigmas{}.sigmas(4));
  const SchedulerConfig config{.spacing = TimestepSpacing::leading, .steps_offset = 1};
  const auto linear = AnySchedule::named("linear", config);
  REQUIRE(linear.sigmas(20) == LinearSigmas::from_config(config).sigmas(20));
  REQUIRE(initial_sigma(linear, linear.sigmas(20)) > linear.sigmas(20).front());
  REQUIRE(AnySchedule(KarrasSigmas{.rho = 3.0}).sigmas(20) == KarrasSigmas{.rho = 3.0}.sigmas(20));
}

TEST_CASE("AnySchedule lists the names it knows", "[schedule]") {
  REQUIRE_THROWS_WITH(
      AnySchedule::named("carras"),
      "schedule: expected one of log-linear, karras, linear, exponential, polyexponential, align-your-steps, "
      "lcm, found \"carras\"");
}
