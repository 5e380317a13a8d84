#pragma once

/// \file
/// Contract of the image codec axis: photographs to latents and back.
///
/// Laws: a batch equals the loop over its images; `decode(encode(x))` stays within the codec's round-trip bound;
/// both are pure.
///
/// Skeleton: see `IdentityCodec` (codec/identity_codec.hpp).

#include <concepts>
#include <cstdint>

#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Images are [B,3,H,W] in [-1,1]; latents are [B,C,H/f,W/f] with f = `downscale()`, C = `latent_channels()`.
/// Latents are not scaled: a denoiser sees them times `scaling_factor()`.
template <class Codec>
concept ImageCodec = requires(const Codec& codec, const at::Tensor& t) {
  { codec.encode(t) } -> std::convertible_to<at::Tensor>;
  { codec.decode(t) } -> std::convertible_to<at::Tensor>;
  { codec.scaling_factor() } -> std::convertible_to<double>;
  { codec.downscale() } -> std::convertible_to<std::int64_t>;
  { codec.latent_channels() } -> std::convertible_to<std::int64_t>;
};

/// Explains in one line what a codec lacks.
template <class Codec>
consteval void require_image_codec() {
  static_assert(ImageCodec<Codec>,
                "ip2p: ImageCodec needs `encode(Tensor)`, `decode(Tensor)`, `scaling_factor()`, `downscale()` and "
                "`latent_channels()`, all const; see docs/reference/concepts.md#imagecodec");
}

}  // namespace ip2p
