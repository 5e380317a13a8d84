#include "ip2p/schedule/align_your_steps_sigmas.hpp"

#include "ip2p/testing/check_schedule.hpp"
#include "support/golden.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("AlignYourStepsSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(AlignYourStepsSigmas{});
  testing::check_schedule(AlignYourStepsSigmas{.table = {700.0, 0.002}});
}

TEST_CASE("AlignYourStepsSigmas has diffusers' table in 10 steps and interpolates as the authors do", "[schedule]") {
  const auto fixture = testing::golden("schedule/fixtures/schedules.json")["tables"];
  REQUIRE(fixture.size() == 6);
  for (const auto& entry : fixture) {
    INFO(entry["n"] << " steps");
    const auto found = AlignYourStepsSigmas{}.sigmas(entry["n"].get<std::int64_t>());
    REQUIRE(testing::relative_difference(found, entry["sigmas"].get<std::vector<double>>()) < 1e-8);
  }
}

TEST_CASE("AlignYourStepsSigmas accepts another table", "[schedule]") {
  const AlignYourStepsSigmas halving{.table = {8.0, 4.0, 2.0, 1.0}};
  REQUIRE(halving.sigmas(3) == std::vector<double>{8.0, 4.0, 2.0, 0.0});
  const auto six = halving.sigmas(6);
  REQUIRE(six[1] == Approx(8.0 / std::sqrt(2.0)));
  REQUIRE(six[5] == Approx(2.0 / std::sqrt(2.0)));
}

TEST_CASE("AlignYourStepsSigmas refuses an unsound table", "[schedule]") {
  const auto run = [](std::vector<double> table) { return AlignYourStepsSigmas{.table = std::move(table)}.sigmas(3); };
  REQUIRE_THROWS_WITH(run({1.0}), Contains("a table of at least 2 noise levels, found 1"));
  REQUIRE_THROWS_WITH(run({2.0, 2.0}), Contains("falls strictly and stays above 0, found 2 at place 1"));
  REQUIRE_THROWS_WITH(run({2.0, 0.0}), Contains("found 0 at place 1"));
  REQUIRE_THROWS_WITH(run({NAN, 1.0}), Contains("found nan at place 0"));
}
