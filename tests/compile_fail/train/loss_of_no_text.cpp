// expect-error: ip2p: DiffusionLoss needs a TextEncoder, or a function `Tensor\(std::span<const std::string>\)`
#include <ip2p/train/diffusion_loss.hpp>
#include "network.hpp"

namespace loss_of_no_text {

struct Pairs {
  std::int64_t size();
  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);
};

struct Text {
#ifdef IP2P_CORRECTED
  at::Tensor encode(std::span<const std::string> prompts) const;
#endif
};

void use(const Network& unet, Pairs& pairs) {
  const ip2p::DiffusionLoss loss(unet, Text{}, pairs, ip2p::UniformTimesteps{}, ip2p::EpsPrediction{}, {.batch = 4});
}

}  // namespace loss_of_no_text
