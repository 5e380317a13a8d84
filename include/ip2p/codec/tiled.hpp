#pragma once

/// \file
/// Runs any codec tile by tile, so that memory depends on the tile size instead of the picture size.

#include <ATen/ops/arange.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/zeros.h>
#include <c10/util/FunctionRef.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/codec/concepts.hpp"
#include "ip2p/core/error.hpp"

namespace ip2p {

namespace detail {

/// What `Tiled` does with a map, whatever the codec.
struct Tiles {
  std::int64_t tile;     ///< Side of a tile in latent pixels.
  std::int64_t overlap;  ///< Latent pixels shared by neighbouring tiles.
  std::int64_t in;       ///< Pixels of input per latent pixel.
  std::int64_t out;      ///< Pixels of output per latent pixel.

  /// `apply` over the tiles of `x`, blended.
  [[nodiscard]] at::Tensor run(const at::Tensor& x, c10::function_ref<at::Tensor(const at::Tensor&)> apply) const {
    require(x.defined() && x.dim() == 4 && x.size(2) > 0 && x.size(3) > 0 && x.size(2) % in == 0 && x.size(3) % in == 0,
            "Tiled: expected [B, C, h, w] with sides that are multiples of {}, found {}", in, tensor_text(x));
    const auto height = x.size(2) / in;
    const auto width = x.size(3) / in;
    if (height <= tile && width <= tile) return apply(x);
    at::Tensor sum;
    at::Tensor total;
    for (const auto top : starts(height)) {
      for (const auto left : starts(width)) {
        const auto rows = std::min(tile, height);
        const auto columns = std::min(tile, width);
        const auto y = apply(x.narrow(2, top * in, rows * in).narrow(3, left * in, columns * in)).to(at::kFloat);
        if (!sum.defined()) {
          sum = at::zeros({y.size(0), y.size(1), height * out, width * out}, y.options());
          total = at::zeros({height * out, width * out}, y.options());
        }
        const auto weight = ramp(rows * out, y.options()).unsqueeze(1) * ramp(columns * out, y.options());
        sum.narrow(2, top * out, rows * out).narrow(3, left * out, columns * out).add_(y * weight);
        total.narrow(0, top * out, rows * out).narrow(1, left * out, columns * out).add_(weight);
      }
    }
    return sum.div_(total);
  }

 private:
  /// First latent pixel of each tile along an axis of `length`; the last tile ends at the edge of the picture.
  [[nodiscard]] std::vector<std::int64_t> starts(std::int64_t length) const {
    std::vector<std::int64_t> result{0};
    while (result.back() + tile < length) {
      result.push_back(std::min(result.back() + tile - overlap, length - tile));
    }
    return result;
  }

  /// Weight of each pixel of a tile along one axis: a ramp of the overlap's pixels at both ends.
  [[nodiscard]] at::Tensor ramp(std::int64_t length, const at::TensorOptions& options) const {
    const auto from_start = at::arange(1, length + 1, options);
    return at::minimum(from_start, from_start.flip(0)).div_(static_cast<double>(overlap * out + 1)).clamp_max_(1.0);
  }
};

}  // namespace detail

/// Encodes and decodes overlapping tiles and blends them linearly over the overlap.
///
/// Inexact if the codec looks further than the overlap (the attention of `KlAutoencoder` sees only its own tile), so it
/// is never used by default. Pictures no larger than one tile are passed straight to the codec.
template <class Codec>
class Tiled {
  static_assert((require_image_codec<Codec>(), true));

 public:
  /// \param tile side of a tile in latent pixels  \param overlap latent pixels shared by neighbouring tiles
  /// \throws Error unless 0 <= overlap < tile
  explicit Tiled(Codec codec, std::int64_t tile = 64, std::int64_t overlap = 16)
      : codec_(std::move(codec)), tile_(tile), overlap_(overlap) {
    require(tile_ > 0 && overlap_ >= 0 && overlap_ < tile_,
            "Tiled: expected 0 <= overlap < tile, found overlap {} and tile {}", overlap_, tile_);
  }

  /// As `ImageCodec::encode`. \param images [B,3,H,W], sides multiples of `downscale()`  \throws Error for other sides
  [[nodiscard]] at::Tensor encode(const at::Tensor& images) const {
    const detail::Tiles tiles{.tile = tile_, .overlap = overlap_, .in = downscale(), .out = 1};
    return tiles.run(images, [this](const at::Tensor& x) { return codec_.encode(x); });
  }

  /// As `ImageCodec::decode`. \param latents [B,C,h,w]
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const {
    const detail::Tiles tiles{.tile = tile_, .overlap = overlap_, .in = 1, .out = downscale()};
    return tiles.run(latents, [this](const at::Tensor& x) { return codec_.decode(x); });
  }

  /// Factor of the latents that the network sees.
  [[nodiscard]] double scaling_factor() const { return codec_.scaling_factor(); }
  /// Pixels per latent pixel along each side.
  [[nodiscard]] std::int64_t downscale() const { return codec_.downscale(); }
  /// Channels of the latents.
  [[nodiscard]] std::int64_t latent_channels() const { return codec_.latent_channels(); }

  /// The codec that works on the tiles.
  [[nodiscard]] Codec& codec() { return codec_; }
  /// The codec that works on the tiles.
  [[nodiscard]] const Codec& codec() const { return codec_; }

  /// Computes in `dtype` without converting the weights, if the codec supports it; see `ModelHandle::compute_in`.
  void compute_in(at::ScalarType dtype) requires requires(Codec& c) { c.compute_in(dtype); }
  { codec_.compute_in(dtype); }

  /// Moves and converts the codec's weights, if it has any.
  void to(at::Device device, at::ScalarType dtype) requires requires(Codec& c) { c.to(device, dtype); }
  { codec_.to(device, dtype); }

 private:
  Codec codec_;
  std::int64_t tile_, overlap_;
};

}  // namespace ip2p
