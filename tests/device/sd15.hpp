#pragma once

// Models of Stable Diffusion 1.5's size, with random weights that the device itself draws.

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "device/models.hpp"

namespace ip2p::device_check {

/// Weights as `initialise` draws them, but on the device: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), norms 1, biases 0,
/// embeddings N(0, 0.02).
template <class Model, class Config>
Model drawn(const Config& config, const Place& place, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  Model model(config);
  model.to(place.device, place.dtype);
  at::manual_seed(seed);
  for (auto& [name, tensor] : model.module().named_parameters()) {
    if (tensor.dim() < 2) {
      tensor.fill_(name.ends_with("bias") ? 0.0 : 1.0);
    } else if (name.ends_with("token_embedding.weight") || name.ends_with("position_embedding.weight")) {
      tensor.normal_(0.0, 0.02);
    } else {
      const double bound = 1.0 / std::sqrt(static_cast<double>(tensor.numel() / tensor.size(0)));
      tensor.uniform_(-bound, bound);
    }
  }
  return model;
}

/// The published shapes, or those of the checks where `small`.
struct BenchmarkShapes {
  explicit BenchmarkShapes(const Settings& settings)
      : small(settings.small), side(small ? 64 : 512), training_side(small ? 64 : 256), steps(small ? 3 : 100) {
    if (small) {
      codec = checked_codec(true);
      text = checked_text();
    }
  }

  [[nodiscard]] UNetConfig unet(std::int64_t in_channels) const {
    if (small) return checked_unet(true, in_channels);
    UNetConfig config;
    config.in_channels = in_channels;
    return config;
  }

  bool small;
  std::int64_t side, training_side, steps;
  KlAutoencoderConfig codec{};
  ClipTextConfig text{};
};

}  // namespace ip2p::device_check
