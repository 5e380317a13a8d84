#pragma once

/// \file
/// Contract of image codecs, which convert pictures to latents and back.
///
/// Laws (`ip2p::testing::check_codec`): a batch gives the same result as its images one by one; `decode(encode(x))`
/// stays within the codec's round-trip bound; latents and pictures have the shapes given by `downscale()` and
/// `latent_channels()`; all calls are pure.
///
/// Skeleton:
/// \code
/// struct MyCodec {
///   at::Tensor encode(const at::Tensor& images) const;   // [B,3,H,W] in [-1,1] -> [B,C,H/f,W/f], unscaled
///   at::Tensor decode(const at::Tensor& latents) const;  // and back
///   double scaling_factor() const;                       // the denoiser sees latents times this, != 0
///   std::int64_t downscale() const;                      // f, >= 1
///   std::int64_t latent_channels() const;                // C, >= 1
/// };
/// static_assert(ip2p::ImageCodec<MyCodec>);
/// \endcode
///
/// Optional members, used if present:
/// \code
///   void to(at::Device device, at::ScalarType dtype);                // `MovableCodec`: has weights
///   Moments encode_moments(const at::Tensor& images) const;          // `PosteriorCodec`: mean and log variance
///   std::string first_non_finite(const Evaluate& evaluate) const;    // for error messages: the layer at fault
/// \endcode
/// Without `to`, the codec is left as it is when a pipeline is moved, and its results must be on its argument's device.
/// Without `encode_moments`, a sample of the posterior is simply the result of `encode`. `first_non_finite` calls
/// `evaluate()` once and returns the name of the first layer whose result is not finite, or "".

#include <concepts>
#include <cstdint>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Images are [B,3,H,W] in [-1,1]; latents are [B,C,H/f,W/f] with f = `downscale()`, C = `latent_channels()`.
/// Latents are unscaled: the denoiser sees them times `scaling_factor()`.
template <class Codec>
concept ImageCodec = requires(const Codec& codec, const at::Tensor& t) {
  { codec.encode(t) } -> std::convertible_to<at::Tensor>;
  { codec.decode(t) } -> std::convertible_to<at::Tensor>;
  { codec.scaling_factor() } -> std::convertible_to<double>;
  { codec.downscale() } -> std::convertible_to<std::int64_t>;
  { codec.latent_channels() } -> std::convertible_to<std::int64_t>;
};

/// Fails to compile, with a one-sentence message, unless `Codec` is an `ImageCodec`.
template <class Codec>
consteval void require_image_codec() {
  static_assert(ImageCodec<Codec>,
                "ip2p: ImageCodec needs `encode(Tensor)`, `decode(Tensor)`, `scaling_factor()`, `downscale()` and "
                "`latent_channels()`, all const; see docs/reference/concepts.md#imagecodec");
}

/// Throws `Error` unless `latents` is floating-point of the shape [B,C,H/f,W/f] that `codec` must return for `images`
/// [B,3,H,W]. For latents not made by `encode_checked`, e.g. samples of `encode_moments`.
template <ImageCodec Codec>
void require_latents(const Codec& codec, const at::Tensor& images, const at::Tensor& latents) {
  const std::int64_t f = codec.downscale();
  require(f >= 1, "codec: expected downscale() >= 1, found {}", f);
  require(images.dim() == 4, "codec: images: expected [B, 3, H, W], found {}", shape_text(images.sizes()));
  const std::vector<std::int64_t> expected{images.size(0), codec.latent_channels(), images.size(2) / f,
                                           images.size(3) / f};
  require(latents.defined() && latents.sizes() == at::IntArrayRef(expected) && latents.is_floating_point(),
          "codec: expected latents {} in floating point for images {}, found {}", shape_text(expected),
          shape_text(images.sizes()), tensor_text(latents));
}

/// `codec.encode(images)`, with its result checked. \param images [B,3,H,W]
/// \throws Error unless the latents are floating-point [B,C,H/f,W/f]
template <ImageCodec Codec>
[[nodiscard]] at::Tensor encode_checked(const Codec& codec, const at::Tensor& images) {
  const at::Tensor latents = codec.encode(images);
  require_latents(codec, images, latents);
  return latents;
}

/// `codec.decode(latents)`, with its result checked. \param latents [B,C,h,w]
/// \throws Error unless the pictures are floating-point [B,3,f*h,f*w]
template <ImageCodec Codec>
[[nodiscard]] at::Tensor decode_checked(const Codec& codec, const at::Tensor& latents) {
  require(latents.dim() == 4, "codec: latents: expected [B, C, h, w], found {}", shape_text(latents.sizes()));
  const at::Tensor images = codec.decode(latents);
  const std::int64_t f = codec.downscale();
  const std::vector<std::int64_t> expected{latents.size(0), 3, f * latents.size(2), f * latents.size(3)};
  require(images.defined() && images.sizes() == at::IntArrayRef(expected) && images.is_floating_point(),
          "codec: expected pictures {} in floating point of latents {}, found {}", shape_text(expected),
          shape_text(latents.sizes()), tensor_text(images));
  return images;
}

}  // namespace ip2p
