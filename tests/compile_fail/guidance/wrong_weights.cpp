// expect-error: ip2p: LinearGuidancePolicy needs `std::array<double, K> weights\(const Step&\) const`
// expect-lines: 15
#include "ip2p/guidance/guided.hpp"

struct Mine {
  static constexpr std::array<ip2p::Branch, 1> branches{};
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step&) const { return stacked; }
#ifdef IP2P_CORRECTED
  std::array<double, 1> weights(const ip2p::Step&) const { return {1.0}; }
#else
  std::array<double, 2> weights(const ip2p::Step&) const { return {1.0, 0.0}; }
#endif
};

void use() { ip2p::require_guidance_policy<Mine>(); }
