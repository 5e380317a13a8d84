// expect-error: ip2p: PredictionPolicy needs `Preconditioning preconditioning\(double sigma\) const`
#include <ip2p/train/diffusion_loss.hpp>
#include "network.hpp"

namespace prediction_by_type {

struct Pairs {
  std::int64_t size();
  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);
};

#ifdef IP2P_CORRECTED
const ip2p::AnyPrediction prediction{ip2p::PredictionType::sample};
#else
const auto prediction = ip2p::PredictionType::sample;
#endif

void use(const Network& unet, Pairs& pairs, at::Tensor (*encode)(std::span<const std::string>)) {
  const ip2p::DiffusionLoss loss(unet, encode, pairs, ip2p::UniformTimesteps{}, prediction);
}

}  // namespace prediction_by_type
