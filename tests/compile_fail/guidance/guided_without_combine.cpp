// The sentence must come first from the combinator as well, not only from the function that it calls.
// expect-error: ip2p: GuidancePolicy needs `Tensor combine\(const Tensor& stacked, const Step&\) const`
// expect-lines-clang: 52
#include <span>

#include "ip2p/guidance/guided.hpp"

namespace guided_without_combine {

struct Mine {
  static constexpr std::array<ip2p::Branch, 1> branches{};
#ifdef IP2P_CORRECTED
  at::Tensor combine(const at::Tensor& stacked, const ip2p::Step&) const { return stacked; }
#endif
};

void use(const at::Tensor& x) {
  auto network = [](const at::Tensor& y, double, const ip2p::Step&, std::span<const ip2p::Branch>) { return y; };
  ip2p::Guided guided(network, Mine{});
  guided(x, 1.0, ip2p::Step{});
}

}  // namespace guided_without_combine
