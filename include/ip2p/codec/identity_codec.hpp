#pragma once

/// \file
/// The codec that does nothing: its latents are the pixels.

#include "ip2p/codec/concepts.hpp"

namespace ip2p {

/// Leaves images as they are; for pixel-space models and for tests.
struct IdentityCodec {
  /// The images [B,3,H,W] themselves.
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const { return images; }
  /// The latents [B,3,H,W] themselves.
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const { return latents; }
  /// 1: latents are not scaled.
  [[nodiscard]] double scaling_factor() const { return 1.0; }
  /// 1: latents have the size of the picture.
  [[nodiscard]] std::int64_t downscale() const { return 1; }
  /// 3: red, green and blue.
  [[nodiscard]] std::int64_t latent_channels() const { return 3; }
};
static_assert(ImageCodec<IdentityCodec>);

}  // namespace ip2p
