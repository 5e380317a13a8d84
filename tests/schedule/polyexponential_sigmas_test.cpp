#include "ip2p/schedule/polyexponential_sigmas.hpp"

#include "ip2p/schedule/exponential_sigmas.hpp"
#include "ip2p/testing/check_schedule.hpp"
#include "schedule/between.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("PolyexponentialSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(PolyexponentialSigmas{});
  testing::check_schedule(PolyexponentialSigmas{.rho = 2.5, .sigma_min = 0.1, .sigma_max = 20.0});
}

TEST_CASE("PolyexponentialSigmas agrees with k-diffusion", "[schedule]") {
  REQUIRE(testing::difference_between_given_ends("polyexponential", [](const nlohmann::json& entry) {
            return PolyexponentialSigmas{.rho = entry["rho"], .sigma_min = entry["min"], .sigma_max = entry["max"]};
          }) < 1e-8);
  REQUIRE(PolyexponentialSigmas{}.sigmas(20) == ExponentialSigmas{}.sigmas(20));
}

TEST_CASE("PolyexponentialSigmas refuses an exponent that is not positive or too large", "[schedule]") {
  REQUIRE_THROWS_WITH(PolyexponentialSigmas{.rho = 0.0}.sigmas(3),
                      Contains("PolyexponentialSigmas: expected rho > 0, found 0"));
  REQUIRE_THROWS_WITH(
      PolyexponentialSigmas{.rho = 40.0}.sigmas(50),
      Contains("PolyexponentialSigmas: expected distinct noise levels, found 0.029") && Contains("twice in 50 steps"));
}
