// A guidance of estimates inside a denoiser would be given predictions.
// expect-error: ip2p: a guidance with `over_estimates` combines what a denoiser of several branches answers; guided_denoiser\(\) makes it
#include <span>

#include "ip2p/guidance/adaptive_projected_guidance.hpp"
#include "ip2p/guidance/guided_denoiser.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"

namespace estimates_of_predictions {

void use(const at::Tensor& x) {
  auto network = [](const at::Tensor& y, double, const ip2p::Step&, std::span<const ip2p::Branch>) { return y; };
  const ip2p::AdaptiveProjectedGuidance<> guidance;
#ifdef IP2P_CORRECTED
  auto denoiser = ip2p::guided_denoiser(network, guidance, ip2p::LogLinearSigmas{}, ip2p::EpsPrediction{});
#else
  ip2p::NetworkDenoiser denoiser(ip2p::Guided(network, guidance), ip2p::LogLinearSigmas{});
#endif
  denoiser(x, ip2p::Step{});
}

}  // namespace estimates_of_predictions
