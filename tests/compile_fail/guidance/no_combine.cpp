// expect-error: ip2p: GuidancePolicy needs `Tensor combine\(const Tensor& stacked, const Step&\) const`; see docs/reference/concepts.md#guidancepolicy
// expect-lines: 15
#include "ip2p/guidance/guided.hpp"

struct Mine {
  static constexpr std::array<ip2p::Branch, 1> branches{};
#ifdef IP2P_CORRECTED
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step&) const { return stacked; }
#else
  at::Tensor combine(const at::Tensor& stacked) const { return stacked; }
#endif
};

void use() { ip2p::require_guidance_policy<Mine>(); }
