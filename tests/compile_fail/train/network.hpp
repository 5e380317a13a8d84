#pragma once

// The smallest possible `TrainableNetwork`: a whole UNet would cost each file here a quarter of a minute.
#include <ip2p/unet/concepts.hpp>

#include <vector>

struct Network {
  struct Layers {
    std::vector<at::Tensor> parameters() const;
  };
  std::int64_t in_channels() const;
  std::int64_t out_channels() const;
  at::Device device() const;
  Layers& module() const;
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& timesteps, const at::Tensor& context) const;
};
