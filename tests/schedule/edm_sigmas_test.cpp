#include "ip2p/schedule/edm_sigmas.hpp"

#include "ip2p/testing/check_schedule.hpp"
#include "schedule/between.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("EdmSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(EdmSigmas{});
  testing::check_schedule(EdmSigmas{.sigma_min = 0.03, .sigma_max = 14.6, .rho = 3.0});
}

TEST_CASE("EdmSigmas agrees with k-diffusion", "[schedule]") {
  REQUIRE(testing::difference_between_given_ends("karras", [](const nlohmann::json& entry) {
            return EdmSigmas{.sigma_min = entry["min"], .sigma_max = entry["max"], .rho = entry["rho"]};
          }) < 1e-8);
}

TEST_CASE("EdmSigmas gives the network c_noise, which is negative for sigma below 1", "[schedule]") {
  REQUIRE(EdmSigmas{}.sigma_to_t(1.0) == 0.0);
  REQUIRE(EdmSigmas{}.sigma_to_t(80.0) == Approx(std::log(80.0) / 4.0));
  REQUIRE(EdmSigmas{}.sigma_to_t(0.002) == Approx(-1.5536520));
}

TEST_CASE("EdmSigmas refuses parameters out of range", "[schedule]") {
  REQUIRE_THROWS_WITH((EdmSigmas{.sigma_min = 90.0}.sigmas(3)),
                      "EdmSigmas: expected 0 < sigma_min < sigma_max, found 90 and 80");
  REQUIRE_THROWS_WITH((EdmSigmas{.rho = -1.0}.sigmas(3)), "EdmSigmas: expected rho > 0, found -1");
  REQUIRE_THROWS_WITH(EdmSigmas{}.sigma_to_t(0.0), "sigma: expected a finite value > 0, found 0");
  REQUIRE_THROWS_WITH(EdmSigmas{}.sigma_to_t(NAN), Contains("found nan"));
}
