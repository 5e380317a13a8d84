#include "ip2p/schedule/log_linear_sigmas.hpp"

#include "ip2p/testing/check_schedule.hpp"
#include "support/golden.hpp"

using namespace ip2p;

TEST_CASE("LogLinearSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(LogLinearSigmas{}, {1, 2, 3, 10, 100, 1000, 1500});
}

TEST_CASE("LogLinearSigmas agrees with k-diffusion to 1e-6", "[schedule]") {
  const auto fixture = testing::golden("schedule/fixtures/schedules.json")["log_linear"];
  REQUIRE(fixture.size() == 8);
  for (const auto& entry : fixture) {
    const auto found = LogLinearSigmas{}.sigmas(entry["n"].get<std::int64_t>());
    REQUIRE(testing::relative_difference(found, entry["sigmas"].get<std::vector<double>>()) < 1e-6);
  }
}

TEST_CASE("LogLinearSigmas with 100 steps begins and ends like the released code", "[schedule]") {
  const auto sigmas = LogLinearSigmas{}.sigmas(100);
  REQUIRE(sigmas.size() == 101);
  const std::vector<double> first{14.61464, 13.75249, 12.95243, 12.2094};
  const std::vector<double> last{0.13862, 0.09869, 0.02917, 0.0};
  for (std::size_t i = 0; i < 4; ++i) {
    REQUIRE(sigmas[i] == Approx(first[i]).margin(6e-6));
    REQUIRE(sigmas[97 + i] == Approx(last[i]).margin(6e-6));
  }
}
