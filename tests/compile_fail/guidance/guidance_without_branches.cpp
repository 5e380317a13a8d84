// expect-error: ip2p: GuidancePolicy needs `static constexpr std::array<Branch, K> branches`; see docs/reference/concepts.md#guidancepolicy
// expect-lines: 20
#include <ip2p/guidance/dual_guidance.hpp>

namespace guidance_without_branches {

struct Fading {
#ifdef IP2P_CORRECTED
  static constexpr auto branches = ip2p::DualGuidance::branches;
#endif
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step) const;
};

void use() { ip2p::require_guidance_policy<Fading>(); }

}  // namespace guidance_without_branches
