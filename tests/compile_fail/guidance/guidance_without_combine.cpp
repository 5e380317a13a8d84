// expect-error: ip2p: GuidancePolicy needs `Tensor combine\(const Tensor& stacked, const Step&\) const`; see docs/reference/concepts.md#guidancepolicy
// expect-lines: 36
#include <ip2p/guidance/dual_guidance.hpp>
#include <ip2p/guidance/guided.hpp>

namespace guidance_without_combine {

struct Fading {
  static constexpr auto branches = ip2p::DualGuidance::branches;
#ifdef IP2P_CORRECTED
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step& step) const;
#else
  at::Tensor combine(const at::Tensor& stacked) const;
#endif
};

at::Tensor network(const at::Tensor& x, double t, const ip2p::Step& step, std::span<const ip2p::Branch> branches);

at::Tensor use(const at::Tensor& x) { return ip2p::guided(network, Fading{})(x, 1.0, {}); }

}  // namespace guidance_without_combine
