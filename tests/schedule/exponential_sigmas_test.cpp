#include "ip2p/schedule/exponential_sigmas.hpp"

#include "ip2p/testing/check_schedule.hpp"
#include "schedule/between.hpp"

using namespace ip2p;

TEST_CASE("ExponentialSigmas keeps the laws of a schedule", "[schedule]") {
  testing::check_schedule(ExponentialSigmas{});
  testing::check_schedule(ExponentialSigmas{.sigma_min = 0.1, .sigma_max = 20.0});
}

TEST_CASE("ExponentialSigmas agrees with k-diffusion", "[schedule]") {
  REQUIRE(testing::difference_between_given_ends("exponential", [](const nlohmann::json& entry) {
            return ExponentialSigmas{.sigma_min = entry["min"], .sigma_max = entry["max"]};
          }) < 1e-8);
}

TEST_CASE("ExponentialSigmas falls by a constant factor between the limits of the training", "[schedule]") {
  const ExponentialSigmas schedule;
  const auto sigmas = schedule.sigmas(12);
  REQUIRE(sigmas.front() == Approx(schedule.training.sigma_max()).epsilon(1e-12));
  REQUIRE(sigmas[11] == Approx(schedule.training.sigma_min()).epsilon(1e-12));
  for (std::size_t i = 2; i < 12; ++i) REQUIRE(sigmas[i] / sigmas[i - 1] == Approx(sigmas[1] / sigmas[0]));
}

TEST_CASE("ExponentialSigmas refuses ends out of range", "[schedule]") {
  REQUIRE_THROWS_WITH((ExponentialSigmas{.sigma_min = 3.0, .sigma_max = 2.0}.sigmas(3)),
                      "ExponentialSigmas: expected 0 < sigma_min < sigma_max, found 3 and 2");
}
