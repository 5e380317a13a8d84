#include "ip2p/schedule/discrete_schedule.hpp"

#include <limits>

#include "support/golden.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

TEST_CASE("DiscreteSchedule has the noise levels of the released model", "[schedule]") {
  const DiscreteSchedule schedule;
  REQUIRE(schedule.timesteps() == 1000);
  REQUIRE(schedule.sigma_max() == Approx(14.61464).epsilon(1e-6));
  REQUIRE(schedule.sigma_min() == Approx(0.029167).epsilon(2e-5));
  REQUIRE(schedule.training_sigmas().size() == 1000);
  REQUIRE(schedule.alphas_cumprod().front() == Approx(1.0 - 0.00085).epsilon(1e-7));
}

TEST_CASE("DiscreteSchedule maps noise levels and timesteps as k-diffusion does", "[schedule]") {
  const DiscreteSchedule schedule;
  const auto maps = testing::golden("schedule/fixtures/schedules.json")["maps"];
  const auto sigmas = maps["sigmas"].get<std::vector<double>>();
  REQUIRE(sigmas.size() == 11);
  for (std::size_t i = 0; i < sigmas.size(); ++i) {
    // The reference computes logarithms in fp32, which moves t by up to 1e-4 of a timestep.
    REQUIRE(schedule.sigma_to_t(sigmas[i]) == Approx(maps["t"][i].get<double>()).margin(2e-4));
  }
  for (std::size_t i = 0; i < maps["times"].size(); ++i) {
    REQUIRE(schedule.t_to_sigma(maps["times"][i].get<double>()) ==
            Approx(maps["sigma"][i].get<double>()).epsilon(1e-6));
  }
}

TEST_CASE("DiscreteSchedule's two maps are inverse to each other and clamp at the ends", "[schedule]") {
  const DiscreteSchedule schedule;
  for (const double t : {0.0, 0.5, 1.0, 17.25, 500.0, 997.9, 998.0, 998.75, 999.0}) {
    REQUIRE(schedule.sigma_to_t(schedule.t_to_sigma(t)) == Approx(t).margin(1e-9));
  }
  REQUIRE(schedule.sigma_to_t(0.0) == 0.0);
  REQUIRE(schedule.sigma_to_t(1e-3) == 0.0);
  REQUIRE(schedule.sigma_to_t(100.0) == 999.0);
}

TEST_CASE("DiscreteSchedule reaches (almost) pure noise with zero terminal SNR", "[schedule]") {
  const DiscreteSchedule plain;
  const DiscreteSchedule rescaled(TrainingNoise{.zero_terminal_snr = true});
  REQUIRE(rescaled.sigma_max() == Approx(4096.0).epsilon(1e-6));
  REQUIRE(rescaled.sigma_min() == Approx(plain.sigma_min()).epsilon(1e-4));
}

TEST_CASE("DiscreteSchedule refuses unsound parameters and arguments", "[schedule]") {
  const DiscreteSchedule schedule;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.timesteps = 1}), Contains("expected 2 to 1000000, found 1"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.timesteps = 1LL << 40}), Contains("expected 2 to 1000000"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.beta_start = 0.0}), Contains("values in (0, 1), found 0"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.beta_start = -1.0}), Contains("values in (0, 1), found"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.beta_end = 1.5}), Contains("training betas"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.beta_end = nan}), Contains("training betas"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.betas = {0.5}}), Contains("expected at least 2, found 1"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.betas = {0.5, nan}}), Contains("found nan"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.betas = {0.5, 1e-12}}), Contains("rise strictly"));
  REQUIRE_THROWS_WITH(DiscreteSchedule(TrainingNoise{.betas = std::vector<double>(300, 0.9)}),
                      Contains("training betas"));
  REQUIRE_THROWS_WITH(schedule.sigma_to_t(-0.1), Contains("expected a finite value >= 0, found -0.1"));
  REQUIRE_THROWS_WITH(schedule.sigma_to_t(nan), Contains("found nan"));
  REQUIRE_THROWS_WITH(schedule.sigma_to_t(std::numeric_limits<double>::infinity()), Contains("found inf"));
  REQUIRE_THROWS_WITH(schedule.t_to_sigma(999.5), Contains("expected a value in [0, 999], found 999.5"));
  REQUIRE_THROWS_WITH(schedule.t_to_sigma(-0.5), Contains("expected a value in [0, 999]"));
  REQUIRE_THROWS_WITH(schedule.t_to_sigma(nan), Contains("found nan"));
}
