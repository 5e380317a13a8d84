#include "ip2p/pipeline/model_diffusion.hpp"

#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "ip2p/schedule/scheduler_config_json.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

// Expected values: diffusers' EulerDiscreteScheduler, by tests/parity/make_config_fixtures.py.

TEST_CASE("Noise levels that a model's scheduler asks for are those of diffusers", "[schedule][parity]") {
  std::ifstream file(ip2p::testing::fixture("schedule/fixtures/model-sigmas.json"));
  for (const auto& entry : nlohmann::json::parse(file)) {
    INFO(entry.at("config").dump());
    const auto config = ip2p::scheduler_config_from_json(entry.at("config"), "scheduler");
    const auto schedule = ip2p::diffusion_of(config, ip2p::Numerics::diffusers).schedule;
    const auto expected = entry.at("sigmas").get<std::vector<double>>();
    const auto timesteps = entry.at("timesteps").get<std::vector<double>>();
    const auto sigmas = schedule.sigmas(static_cast<std::int64_t>(timesteps.size()));
    REQUIRE(sigmas.size() == expected.size());
    for (std::size_t i = 0; i < sigmas.size(); ++i) CHECK(sigmas[i] == Approx(expected[i]).epsilon(2e-5));
    for (std::size_t i = 0; i < timesteps.size(); ++i) {
      CHECK(schedule.sigma_to_t(sigmas[i]) == Approx(timesteps[i]).epsilon(1e-4).margin(0.02));
    }
    CHECK(schedule.initial_sigma(sigmas) == Approx(entry.at("initial").get<double>()).epsilon(2e-5));
  }
}
