// expect-error: ip2p: SchedulePolicy needs `std::vector<double> sigmas\(std::int64_t n\) const`
// expect-lines: 15
#include "ip2p/schedule/concepts.hpp"

struct Mine {
#ifdef IP2P_CORRECTED
  std::vector<double> sigmas(std::int64_t) const { return {1.0, 0.0}; }
#else
  std::vector<float> sigmas(std::int64_t) const { return {1.0F, 0.0F}; }
#endif
  double sigma_to_t(double sigma) const { return sigma; }
};

void use() { ip2p::require_schedule_policy<Mine>(); }
