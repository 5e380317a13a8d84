// expect-error: ip2p: Denoiser needs `at::Tensor operator\(\)\(const at::Tensor& x, const Step& step\)`; see docs/reference/concepts.md#denoiser
// expect-lines: 17
#include <ip2p/sampling/euler.hpp>

namespace denoiser_of_a_number {

struct OfSigma {
#ifdef IP2P_CORRECTED
  at::Tensor operator()(const at::Tensor& x, const ip2p::Step& step) const { return x; }
#else
  at::Tensor operator()(const at::Tensor& x, double sigma) const { return x; }
#endif
};

at::Tensor use(const at::Tensor& x) {
  ip2p::TorchNoise noise(1);
  const double sigmas[] = {1.0, 0.0};
  return ip2p::Euler{}.sample(OfSigma{}, x, sigmas, noise);
}

}  // namespace denoiser_of_a_number
