#pragma once

/// \file
/// The laws of `SchedulePolicy`.

#include <cmath>
#include <cstdint>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `SchedulePolicy` that `schedule` breaks, over runs of `steps` steps.
template <class Schedule>
void check_schedule(const Schedule& schedule, const std::vector<std::int64_t>& steps = {1, 2, 3, 10, 20, 50, 100}) {
  require_schedule_policy<Schedule>();
  constexpr auto role = "SchedulePolicy";

  for (const std::int64_t n : steps) {
    const std::vector<double> sigmas = schedule.sigmas(n);
    expect_law(static_cast<std::int64_t>(sigmas.size()) == n + 1, role, "n steps have n + 1 noise levels",
               "expected {}, found {}", n + 1, sigmas.size());
    for (std::size_t i = 0; i < sigmas.size(); ++i) {
      expect_law(std::isfinite(sigmas[i]), role, "finite noise levels", "sigmas({})[{}] is {}", n, i, sigmas[i]);
      expect_law(i == 0 || sigmas[i] < sigmas[i - 1], role, "strictly decreasing", "sigmas({})[{}] is {} after {}", n,
                 i, sigmas[i], sigmas[i == 0 ? 0 : i - 1]);
    }
    expect_law(sigmas.back() == 0.0, role, "the last noise level is 0", "sigmas({}) ends with {}", n, sigmas.back());

    double previous = INFINITY;
    for (std::size_t i = 0; i + 1 < sigmas.size(); ++i) {
      const double t = schedule.sigma_to_t(sigmas[i]);
      expect_law(std::isfinite(t), role, "timesteps are finite", "t({}) is {}", sigmas[i], t);
      expect_law(t <= previous, role, "timesteps do not rise where sigma falls", "t({}) is {} after {}", sigmas[i], t,
                 previous);
      previous = t;
    }
    if (n > 1) {
      const double last = schedule.sigma_to_t(sigmas[static_cast<std::size_t>(n) - 1]);
      expect_law(last < schedule.sigma_to_t(sigmas.front()), role, "timesteps tell noise levels apart",
                 "{} at both ends of a run of {} steps", last, n);
    }
    const double start = initial_sigma(schedule, sigmas);
    expect_law(std::isfinite(start) && start > 0.0, role, "the start factor is finite and positive", "found {}", start);
    const std::vector<double> again = schedule.sigmas(n);
    for (std::size_t i = 0; i < sigmas.size(); ++i) {
      expect_law(again.size() == sigmas.size() && again[i] == sigmas[i], role, "equal calls give equal bits",
                 "sigmas({})[{}] was {}, and then {} of {}", n, i, sigmas[i], i < again.size() ? again[i] : NAN,
                 again.size());
    }
  }
  for (const std::int64_t n : {0, -1}) {
    expect_throws([&] { (void)schedule.sigmas(n); }, role, "fewer than one step is refused",
                  n == 0 ? "0 steps" : "-1 steps");
  }
}

}  // namespace ip2p::testing
