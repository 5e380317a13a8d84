#pragma once

#include <ATen/ops/cat.h>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/pipeline/inversion.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/paths.hpp"

namespace ip2p::testing {

/// A whole small model with random weights, in the published layout.
inline ModelFiles tiny_files() { return ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")); }

/// Its UNet with other input channels: the first `channels` of conv_in, or for more of them the first once more at the
/// end. As tests/parity/make_generation_fixtures.py derives it.
inline UNet tiny_unet(std::int64_t channels) {
  const at::NoGradGuard no_grad;
  const auto published = load<UNet>(tiny_files(), {.inference = false});
  auto config = published.config();
  config.in_channels = channels;
  UNet unet(config);
  for (const auto& [name, tensor] : unet.module().named_parameters()) {
    const auto& value = published.module().parameter(name);
    if (name != "conv_in.weight") {
      tensor.copy_(value);
    } else if (channels <= value.size(1)) {
      tensor.copy_(value.narrow(1, 0, channels));
    } else {
      tensor.copy_(at::cat({value, value.narrow(1, 0, channels - value.size(1))}, 1));
    }
  }
  return unet;
}

/// Text encoder, codec and a UNet of 4 channels.
template <class Sampler = EulerAncestral>
auto tiny_text_to_image(Sampler sampler = {}) {
  const auto files = tiny_files();
  return TextToImagePipeline{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), tiny_unet(4),
                             diffusion_of(files), sampler};
}

/// The same with the timesteps that inversion was published with.
template <class Sampler = EulerAncestral>
auto tiny_inverter(Sampler sampler = {}) {
  auto pipeline = tiny_text_to_image(sampler);
  pipeline.diffusion.schedule = ddim_schedule({});
  return pipeline;
}

/// A picture with structure everywhere.
inline Image tiny_photo(std::int64_t width = 64, std::int64_t height = 64, unsigned stride = 7) {
  Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(i * stride);
  return image;
}

/// White in the right half, black in the left.
inline Image tiny_mask(std::int64_t width = 64, std::int64_t height = 64) {
  Image image{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
  for (std::int64_t i = 0; i < width * height * 3; ++i) {
    image.pixels[static_cast<std::size_t>(i)] = i / 3 % width >= width / 2 ? 255 : 0;
  }
  return image;
}

}  // namespace ip2p::testing
