// expect-error: ip2p: Denoiser needs `at::Tensor operator\(\)\(const at::Tensor& x, const Step& at\)`; see docs/reference/concepts.md#denoiser
#include "ip2p/sampling/euler.hpp"

void use(const at::Tensor& x, std::span<const double> sigmas) {
  ip2p::CounterNoise noise(1);
#ifdef IP2P_CORRECTED
  auto denoiser = [](const at::Tensor& y, const ip2p::Step&) { return y; };
#else
  auto denoiser = [](const at::Tensor& y, double) { return y; };
#endif
  ip2p::Euler{}.sample(denoiser, x, sigmas, noise);
}
