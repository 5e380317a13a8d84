// expect-error: ip2p: LossWeightPolicy needs `double operator\(\)\(double snr, const Preconditioning& prediction\) const`
#include <ip2p/train/diffusion_loss.hpp>
#include "network.hpp"

namespace weight_of_a_timestep {

struct Pairs {
  std::int64_t size();
  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);
};

struct Weight {
#ifdef IP2P_CORRECTED
  double operator()(double snr, const ip2p::Preconditioning& prediction) const;
#else
  double operator()(std::int64_t timestep) const;
#endif
};

void use(const Network& unet, Pairs& pairs, at::Tensor (*encode)(std::span<const std::string>)) {
  const ip2p::DiffusionLoss loss(unet, encode, pairs, ip2p::UniformTimesteps{}, ip2p::EpsPrediction{}, {},
                                 ip2p::NoDropout{}, Weight{});
}

}  // namespace weight_of_a_timestep
