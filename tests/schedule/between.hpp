#pragma once

// k-diffusion's schedules between given ends.

#include <algorithm>
#include <string_view>

#include "support/golden.hpp"

namespace ip2p::testing {

/// Largest relative difference of the levels of `make(entry)` to k-diffusion's in double, for each entry of that name.
template <class Make>
double difference_between_given_ends(std::string_view name, Make make) {
  double largest = 0.0;
  std::size_t count = 0;
  const auto fixture = golden("schedule/fixtures/schedules.json");
  for (const auto& entry : fixture["between"]) {
    if (entry["name"] != name) continue;
    ++count;
    INFO(entry["n"] << " steps, rho " << entry["rho"]);
    const auto found = make(entry).sigmas(entry["n"].template get<std::int64_t>());
    largest = std::max(largest, relative_difference(found, entry["sigmas"].template get<std::vector<double>>()));
  }
  REQUIRE(count == 6);
  return largest;
}

}  // namespace ip2p::testing
