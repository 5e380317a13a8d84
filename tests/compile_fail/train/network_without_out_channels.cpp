// expect-error: ip2p: TrainableNetwork needs `in_channels\(\)`, `out_channels\(\)`, `device\(\)`, `module\(\)`
#include <ip2p/train/diffusion_loss.hpp>
#include <ip2p/unet/concepts.hpp>

namespace network_without_out_channels {

struct Pairs {
  std::int64_t size();
  ip2p::EditPair get(std::int64_t i, ip2p::SampleRandom& random);
};

struct Network {
  std::int64_t in_channels() const;
#ifdef IP2P_CORRECTED
  std::int64_t out_channels() const;
#endif
  at::Device device() const;
  struct Layers {
    std::vector<at::Tensor> parameters() const;
  };
  Layers& module() const;
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context) const;
};

void use(const Network& network, Pairs& pairs, at::Tensor (*encode)(std::span<const std::string>)) {
  const ip2p::DiffusionLoss loss(network, encode, pairs, ip2p::UniformTimesteps{}, ip2p::EpsPrediction{}, {.batch = 4});
}

}  // namespace network_without_out_channels
