// The sentence must come first, from the class itself and not from a failed deduction.
// expect-error: ip2p: SchedulePolicy needs `std::vector<double> sigmas\(std::int64_t n\) const`; see docs/reference/concepts.md#schedulepolicy
// expect-lines: 20
#include <vector>

#include "ip2p/sampling/denoiser.hpp"

namespace denoiser_of_no_schedule {

struct Mine {
#ifdef IP2P_CORRECTED
  std::vector<double> sigmas(std::int64_t n) const { return {static_cast<double>(n), 0.0}; }
#endif
  double sigma_to_t(double sigma) const { return sigma; }
};

void use() {
  auto network = [](const at::Tensor& x, double) { return x; };
  ip2p::NetworkDenoiser denoiser(network, Mine{});
}

}  // namespace denoiser_of_no_schedule
