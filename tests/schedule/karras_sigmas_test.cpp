#include "ip2p/schedule/karras_sigmas.hpp"

#include "ip2p/testing/check_schedule.hpp"
#include "schedule/between.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("KarrasSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(KarrasSigmas{});
  testing::check_schedule(KarrasSigmas{.rho = 1.0});
  testing::check_schedule(KarrasSigmas{.sigma_min = 0.1, .sigma_max = 20.0});
}

TEST_CASE("KarrasSigmas agrees with k-diffusion, evaluated in double, to 1e-6", "[schedule]") {
  const auto fixture = testing::golden("schedule/fixtures/schedules.json")["karras"];
  REQUIRE(fixture.size() == 14);
  for (const auto& entry : fixture) {
    const KarrasSigmas schedule{.rho = entry["rho"].get<double>()};
    const auto found = schedule.sigmas(entry["n"].get<std::int64_t>());
    REQUIRE(testing::relative_difference(found, entry["sigmas"].get<std::vector<double>>()) < 1e-6);
  }
  REQUIRE(testing::difference_between_given_ends("karras", [](const nlohmann::json& entry) {
            return KarrasSigmas{.rho = entry["rho"], .sigma_min = entry["min"], .sigma_max = entry["max"]};
          }) < 1e-8);
}

TEST_CASE("KarrasSigmas refuses parameters out of range", "[schedule]") {
  REQUIRE_THROWS_WITH(KarrasSigmas{.rho = 0.0}.sigmas(3), Contains("KarrasSigmas: expected rho > 0, found 0"));
  REQUIRE_THROWS_AS(KarrasSigmas{.rho = NAN}.sigmas(3), Error);
  REQUIRE_THROWS_WITH(KarrasSigmas{.sigma_min = 20.0}.sigmas(3),
                      Contains("KarrasSigmas: expected 0 < sigma_min < sigma_max, found 20 and 14.6"));
  REQUIRE_THROWS_WITH(KarrasSigmas{.sigma_min = 0.0}.sigmas(3), Contains("found 0 and 14.6"));
  REQUIRE_THROWS_WITH(KarrasSigmas{.sigma_max = INFINITY}.sigmas(3), Contains("and inf"));
}
