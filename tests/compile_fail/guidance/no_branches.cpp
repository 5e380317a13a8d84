// expect-error: ip2p: GuidancePolicy needs `static constexpr std::array<Branch, K> branches`
// expect-lines: 15
#include "ip2p/guidance/guided.hpp"

struct Mine {
#ifdef IP2P_CORRECTED
  static constexpr
#endif
      std::array<ip2p::Branch, 1> branches{};
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step&) const { return stacked; }
};

void use() { ip2p::require_guidance_policy<Mine>(); }
