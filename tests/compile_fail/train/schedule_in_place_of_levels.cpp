// expect-error: ip2p: TrainingLevelsPolicy needs `TrainingLevel draw\(SampleRandom& random\) const`
#include <ip2p/train/diffusion_loss.hpp>
#include "network.hpp"

namespace schedule_in_place_of_levels {

struct Pairs {
  std::int64_t size();
  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);
};

#ifdef IP2P_CORRECTED
const ip2p::UniformTimesteps levels{ip2p::DiscreteSchedule{}};
#else
const ip2p::DiscreteSchedule levels;
#endif

void use(const Network& unet, Pairs& pairs, at::Tensor (*encode)(std::span<const std::string>)) {
  const ip2p::DiffusionLoss loss(unet, encode, pairs, levels, ip2p::EpsPrediction{});
}

}  // namespace schedule_in_place_of_levels
