// expect-error: ip2p: PredictionPolicy needs `Preconditioning preconditioning\(double sigma\) const`; see docs/reference/concepts.md#predictionpolicy
// expect-lines: 20
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"

struct Mine {
#ifdef IP2P_CORRECTED
  ip2p::Preconditioning preconditioning(double sigma) const { return ip2p::EpsPrediction{}.preconditioning(sigma); }
#else
  double preconditioning(double sigma) const { return -sigma; }
#endif
};

void use() {
  auto network = [](const at::Tensor& x, double) { return x; };
  ip2p::NetworkDenoiser denoiser(network, ip2p::LogLinearSigmas{}, Mine{});
}
