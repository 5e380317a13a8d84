// The sentence also comes first through the class that uses the prediction.
// expect-error: ip2p: PredictionPolicy needs `Preconditioning preconditioning\(double sigma\) const` and a copy constructor; see docs/reference/concepts.md#predictionpolicy
// expect-lines: 15
// expect-lines-clang: 32
#include <ip2p/sampling/denoiser.hpp>

namespace denoiser_of_another_prediction {

struct Schedule {
  std::vector<double> sigmas(std::int64_t n) const;
  double sigma_to_t(double sigma) const;
};

struct Velocity {
#ifdef IP2P_CORRECTED
  ip2p::Preconditioning preconditioning(double sigma) const;
#else
  double preconditioning(double sigma) const;
#endif
};

at::Tensor network(const at::Tensor& x, double t);

at::Tensor use(const at::Tensor& x) { return ip2p::NetworkDenoiser(network, Schedule{}, Velocity{})(x, ip2p::Step{}); }

}  // namespace denoiser_of_another_prediction
