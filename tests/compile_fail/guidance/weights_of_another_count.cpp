// expect-error: ip2p: LinearGuidancePolicy needs `std::array<double, K> weights\(const Step&\) const`; see docs/reference/concepts.md#guidancepolicy
// expect-lines: 15
#include <ip2p/guidance/dual_guidance.hpp>

namespace weights_of_another_count {

struct Fading {
  static constexpr auto branches = ip2p::DualGuidance::branches;
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step) const;
#ifdef IP2P_CORRECTED
  std::array<double, 3> weights(const ip2p::Step& step) const;
#else
  std::array<double, 2> weights(const ip2p::Step& step) const;
#endif
};

void use() { ip2p::require_guidance_policy<Fading>(); }

}  // namespace weights_of_another_count
