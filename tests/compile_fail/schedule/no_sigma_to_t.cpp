// expect-error: ip2p: SchedulePolicy needs `double sigma_to_t\(double sigma\) const`; see docs/reference/concepts.md#schedulepolicy
// expect-lines: 15
#include "ip2p/schedule/concepts.hpp"

namespace no_sigma_to_t {

struct Mine {
  std::vector<double> sigmas(std::int64_t) const { return {1.0, 0.0}; }
#ifdef IP2P_CORRECTED
  double sigma_to_t(double sigma) const { return sigma; }
#endif
};

void use() { ip2p::require_schedule_policy<Mine>(); }

}  // namespace no_sigma_to_t
