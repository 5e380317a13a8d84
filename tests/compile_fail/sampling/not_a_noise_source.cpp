// expect-error: ip2p: NoiseSource needs `at::Tensor normal\(at::IntArrayRef shape, std::int64_t draw\)`; see docs/reference/concepts.md#noisesource
#include "ip2p/sampling/euler_ancestral.hpp"

void use(const at::Tensor& x, std::span<const double> sigmas) {
#ifdef IP2P_CORRECTED
  ip2p::CounterNoise noise(1);
#else
  int noise = 1;
#endif
  ip2p::EulerAncestral{}.sample([](const at::Tensor& y, const ip2p::Step&) { return y; }, x, sigmas, noise);
}
