#include "ip2p/schedule/karras_sigmas.hpp"

#include "ip2p/testing/check_schedule.hpp"
#include "support/golden.hpp"

using namespace ip2p;

TEST_CASE("KarrasSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(KarrasSigmas{});
  testing::check_schedule(KarrasSigmas{.rho = 1.0});
}

TEST_CASE("KarrasSigmas agrees with k-diffusion, evaluated in double, to 1e-6", "[schedule]") {
  const auto fixture = testing::golden("schedule/fixtures/schedules.json")["karras"];
  REQUIRE(fixture.size() == 14);
  for (const auto& entry : fixture) {
    const KarrasSigmas schedule{.rho = entry["rho"].get<double>()};
    const auto found = schedule.sigmas(entry["n"].get<std::int64_t>());
    REQUIRE(testing::relative_difference(found, entry["sigmas"].get<std::vector<double>>()) < 1e-6);
  }
}

TEST_CASE("KarrasSigmas refuses an exponent that is not positive", "[schedule]") {
  REQUIRE_THROWS_WITH(KarrasSigmas{.rho = 0.0}.sigmas(3), Catch::Matchers::Contains("expected rho > 0, found 0"));
  REQUIRE_THROWS_AS(KarrasSigmas{.rho = NAN}.sigmas(3), Error);
}
