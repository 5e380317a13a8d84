// expect-error: ip2p: ConditioningDropoutPolicy needs `Dropped drop\(double u\) const`
#include <ip2p/train/diffusion_loss.hpp>
#include "network.hpp"

namespace dropout_that_answers_bool {

struct Pairs {
  std::int64_t size();
  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);
};

struct Dropout {
#ifdef IP2P_CORRECTED
  ip2p::Dropped drop(double u) const;
#else
  bool drop(double u) const;
#endif
};

void use(const Network& unet, Pairs& pairs, at::Tensor (*encode)(std::span<const std::string>)) {
  const ip2p::DiffusionLoss loss(unet, encode, pairs, ip2p::UniformTimesteps{}, ip2p::EpsPrediction{}, {}, Dropout{});
}

}  // namespace dropout_that_answers_bool
