#pragma once

// The noise levels of diffusers' schedulers over variance-preserving latents.

#include <cmath>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "support/golden.hpp"

namespace ip2p::testing {

/// Requires the levels, timesteps and start factor of `make(json, config)` to equal those of the named scheduler in
/// `count` configurations.
template <class Make>
void require_preserving(std::string_view scheduler, std::size_t count, Make make) {
  std::size_t seen = 0;
  const auto fixture = golden("schedule/fixtures/schedules.json");
  for (const auto& entry : fixture["preserving"]) {
    if (entry["scheduler"] != scheduler) continue;
    ++seen;
    INFO(entry["config"] << ", " << entry["n"] << " steps");
    const auto schedule = make(entry["config"], scheduler_config_from_json(entry["config"], "fixture"));
    const auto found = schedule.sigmas(entry["n"].template get<std::int64_t>());
    REQUIRE(found.size() == entry["sigmas"].size());
    // diffusers rescales to zero SNR in fp32, where differences of nearly equal numbers lose digits.
    const double tolerance = entry["config"].contains("rescale_betas_zero_snr") ? 1e-3 : 1e-6;
    for (std::size_t i = 0; i + 1 < found.size(); ++i) {
      if (entry["sigmas"][i].is_null()) {
        REQUIRE(found[i] == Approx(4096.0));  // infinite there
      } else {
        REQUIRE(found[i] == Approx(entry["sigmas"][i].template get<double>()).epsilon(tolerance));
      }
      REQUIRE(schedule.sigma_to_t(found[i]) == Approx(entry["timesteps"][i].template get<double>()).margin(1e-6));
    }
    if (!entry["initial"].is_null()) {
      REQUIRE(initial_sigma(schedule, found) == Approx(entry["initial"].template get<double>()).epsilon(tolerance));
    }
  }
  REQUIRE(seen == count);
}

}  // namespace ip2p::testing
