// expect-error: ip2p: GuidancePolicy: `start` needs to be `State start\(\) const` with a copyable State
#include <array>

#include "ip2p/guidance/rescaled.hpp"

namespace start_that_changes_itself {

struct Mine {
  static constexpr std::array<ip2p::Branch, 1> branches{};
#ifdef IP2P_CORRECTED
  int start() const { return 0; }
#else
  int start() { return 0; }
#endif
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step&, const at::Tensor&, int&) const { return stacked; }
};

void use() { (void)ip2p::Rescaled{Mine{}, 0.5}; }

}  // namespace start_that_changes_itself
