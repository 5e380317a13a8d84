// expect-error: ip2p: SchedulePolicy needs `std::vector<double> sigmas\(std::int64_t n\) const`; see docs/reference/concepts.md#schedulepolicy
// expect-lines: 15
#include <ip2p/schedule/concepts.hpp>

namespace schedule_of_floats {

struct Halving {
#ifdef IP2P_CORRECTED
  std::vector<double> sigmas(std::int64_t n) const;
#else
  std::vector<float> sigmas(std::int64_t n) const;
#endif
  double sigma_to_t(double sigma) const;
};

double use(const Halving& halving) { return ip2p::initial_sigma(halving, {1.0, 0.0}); }

}  // namespace schedule_of_floats
