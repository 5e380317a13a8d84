// A policy with a state whose combine does not take it.
// expect-error: ip2p: GuidancePolicy with `State start\(\) const` needs `Tensor combine\(const Tensor& stacked, const Step&, const Tensor& x, State&\) const`; see docs/reference/concepts.md#guidancepolicy
#include <array>

#include "ip2p/guidance/limited_interval.hpp"

namespace start_without_state {

struct Mine {
  static constexpr std::array<ip2p::Branch, 1> branches{};
  int start() const { return 0; }
#ifdef IP2P_CORRECTED
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step&, const at::Tensor&, int& run) const {
    ++run;
    return stacked;
  }
#else
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step&) const { return stacked; }
#endif
};

void use() { (void)ip2p::LimitedInterval{Mine{}, 0.0, 1.0}; }

}  // namespace start_without_state
