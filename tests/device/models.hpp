#pragma once

// Models with seeded random weights, in the shapes that the checks and the benchmarks use.

#include <ATen/core/grad_mode.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "device/check.hpp"
#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/io/image_types.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/text/clip_text_encoder.hpp"
#include "ip2p/unet/unet.hpp"

namespace ip2p::device_check {

/// A model of its own with the weights of `model`, where `place` says. Frozen as in a run, except for the reference.
template <class Model>
Model placed(const Model& model, const Place& place) {
  const at::NoGradGuard no_grad;
  Model copy(model.config());
  const auto from = model.module().parameters(), to = copy.module().parameters();
  for (std::size_t i = 0; i < from.size(); ++i) to[i].copy_(from[i]);
  if (!place.reference) copy.freeze();
  copy.to(place.device, place.dtype);
  return copy;
}

/// SD1.5's structure with a quarter of its channels in a quarter of the heads, hence with its head sizes 40, 80 and
/// 160; three small resolutions where `small`.
inline UNetConfig checked_unet(bool small, std::int64_t in_channels) {
  UNetConfig config;
  config.in_channels = in_channels;
  config.cross_attention_dim = 64;
  config.block_out_channels =
      small ? std::vector<std::int64_t>{32, 64, 64} : std::vector<std::int64_t>{80, 160, 320, 320};
  const auto levels = config.block_out_channels.size();
  config.cross_attention.assign(levels, true);
  config.cross_attention.back() = false;
  config.heads.assign(levels, 2);
  config.transformer_layers.assign(levels, 1);
  config.layers_per_block = small ? 1 : 2;
  config.norm_num_groups = 16;
  return config;
}

/// A downscale of 8, and outside of `small` the head size 512 of the published codec.
inline KlAutoencoderConfig checked_codec(bool small) {
  KlAutoencoderConfig config;
  config.block_out_channels =
      small ? std::vector<std::int64_t>{16, 16, 32, 32} : std::vector<std::int64_t>{32, 64, 128, 512};
  config.layers_per_block = small ? 1 : 2;
  config.norm_num_groups = 16;
  return config;
}

/// Two layers of width 64 under the published vocabulary.
inline ClipTextConfig checked_text() {
  ClipTextConfig config;
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  return config;
}

/// A model with weights from `seed`.
template <class Model, class Config>
Model seeded(Config config, std::uint64_t seed) {
  Model model(std::move(config));
  initialise(model.module(), seed);
  return model;
}

/// A picture with structure everywhere.
inline Image patterned(std::int64_t width, std::int64_t height, unsigned stride = 7) {
  Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = static_cast<std::uint8_t>(i * stride + i / 1000 * 13);
  }
  return image;
}

/// The tokenizer of the repository, opened once.
inline const BpeTokenizer& published_tokenizer(const Settings& settings) {
  static const auto tokenizer =
      BpeTokenizer::open(settings.models / "clip-tokenizer", {.text = TokenizerText::released});
  return tokenizer;
}

}  // namespace ip2p::device_check
