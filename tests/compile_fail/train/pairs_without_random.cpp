// expect-error: ip2p: PairSource needs `std::int64_t size\(\)` and `EditPair get\(std::int64_t i, SampleRandom&\)`
#include <ip2p/train/diffusion_loss.hpp>
#include "network.hpp"

namespace pairs_without_random {

struct Pairs {
  std::int64_t size();
#ifdef IP2P_CORRECTED
  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);
#else
  ip2p::EditPair get(std::int64_t i);
#endif
};

void use(const Network& unet, Pairs& pairs, at::Tensor (*encode)(std::span<const std::string>)) {
  const ip2p::DiffusionLoss loss(unet, encode, pairs, ip2p::UniformTimesteps{}, ip2p::EpsPrediction{});
}

}  // namespace pairs_without_random
