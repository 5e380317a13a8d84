#pragma once

/// \file
/// The laws of `LearningRatePolicy`.

#include <cmath>
#include <cstdint>
#include <vector>

#include "ip2p/testing/law.hpp"
#include "ip2p/train/learning_rate.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `LearningRatePolicy` that `rate` breaks. Checks the first `steps` updates,
/// then those at 1, 2, 10, 100 and 1000 times `steps`.
template <class Rate>
void check_learning_rate(const Rate& rate, std::int64_t steps = 2000) {
  require_learning_rate_policy<Rate>();
  constexpr auto role = "LearningRatePolicy";
  std::vector<std::int64_t> asked;
  for (std::int64_t step = 0; step < steps; ++step) asked.push_back(step);
  for (const std::int64_t factor : {1, 2, 10, 100, 1000}) asked.push_back(factor * steps);
  std::vector<double> values;
  for (const auto step : asked) {
    values.push_back(rate(step));
    expect_law(std::isfinite(values.back()), role, "rates are finite", "{} for update {}", values.back(), step);
    expect_law(values.back() >= 0.0, role, "rates are not negative", "{} for update {}", values.back(), step);
  }
  const Rate copy(rate);
  for (std::size_t i = asked.size(); i-- > 0;) {
    const double again = copy(asked[i]);
    expect_law(again == values[i], role, "a rate is a function of the update's number", "{} and then {} for update {}",
               values[i], again, asked[i]);
  }
}

}  // namespace ip2p::testing
