#pragma once

/// \file
/// The augmented views of a picture that are shown to CLIP.

#include <ATen/ops/cat.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/upsample_bilinear2d.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/text2live/colour_jitter.hpp"
#include "ip2p/text2live/warp.hpp"

namespace ip2p {

/// A rectangle of a picture in pixels.
struct CropBox {
  std::int64_t top = 0, left = 0, height = 0, width = 0;  ///< Upper left corner, and sides.

  /// A box of int(share * side) pixels on each axis at a random position.
  static CropBox draw(const Size& picture, double share, SampleRandom& random) {
    CropBox box;
    box.height = static_cast<std::int64_t>(static_cast<double>(picture.height) * share);
    box.width = static_cast<std::int64_t>(static_cast<double>(picture.width) * share);
    box.top = random.below(picture.height - box.height + 1);
    box.left = random.below(picture.width - box.width + 1);
    return box;
  }

  /// \param picture [..., H, W]  \return [..., height, width], a view
  [[nodiscard]] at::Tensor of(const at::Tensor& picture) const {
    return picture.narrow(-2, top, height).narrow(-1, left, width);
  }
};

/// Size of a picture [..., H, W].
inline Size size_of(const at::Tensor& picture) { return {picture.size(-1), picture.size(-2)}; }

/// Bilinear, without antialiasing. \param picture [1, C, H, W]
inline at::Tensor bilinear(const at::Tensor& picture, const Size& size) {
  return at::upsample_bilinear2d(picture, {size.height, size.width}, false);
}

/// Size of a picture resized so that its shorter side is `side`, or its longer one `longest` if that is smaller.
/// Fractions of pixels are truncated, as in torchvision.
inline Size fitted(const Size& picture, std::int64_t side, std::int64_t longest) {
  const bool tall = picture.height > picture.width;
  std::int64_t shorter = side,
               longer = side * std::max(picture.width, picture.height) / std::min(picture.width, picture.height);
  if (longer > longest) {
    shorter = longest * shorter / longer;
    longer = longest;
  }
  return tall ? Size{shorter, longer} : Size{longer, shorter};
}

/// Random choices for one view, in the order in which they are applied.
struct ViewDraws {
  std::optional<CropBox> crop{};         ///< Of the picture; empty: all of it.
  bool mirrored = false;                 ///< Left to right.
  std::optional<AffineDraws> affine{};   ///< Rotation and shift; none without.
  std::optional<Corners> corners{};      ///< Perspective; none without.
  std::optional<ColourDraws> colours{};  ///< Change of colours; none without.
  bool grey = false;                     ///< Colours are taken away.
};

/// Settings of the views. The defaults are the published ones.
struct ClipViews {
  std::int64_t count = 16;   ///< Views per picture, >= 1; the first shows all of it.
  double least_cover = 0.6;  ///< Smallest fraction of each side that a view covers, in (0, 1].
  double mirrored = 0.5, affine = 0.8, perspective = 0.5, colours = 0.7, grey = 0.15;  ///< Probabilities.
  double degrees = 15, shift = 0.1;  ///< Largest rotation, and largest shift as a fraction of each side.
  double distortion = 0.4;           ///< Largest shift of a corner, as a fraction of half of each side, in [0, 1].
  double spread = 0.1;               ///< Strength of the colour jitter, in [0, 0.5].
  double fill = 1.0;                 ///< Value of a warped view outside the picture.

  /// \throws Error for values out of range
  void validate() const {
    require(count >= 1, "CLIP views: expected at least 1, found {}", count);
    require(least_cover > 0 && least_cover <= 1, "CLIP views: least_cover: expected a share in (0, 1], found {}",
            least_cover);
    for (const double share : {mirrored, affine, perspective, colours, grey, distortion}) {
      require(share >= 0 && share <= 1, "CLIP views: expected shares in [0, 1], found {}", share);
    }
    require(spread >= 0 && spread <= 0.5, "CLIP views: spread: expected a value in [0, 0.5], found {}", spread);
  }

  /// Draws the choices for `count` views. \param picture size of the picture  \param view size of its views
  [[nodiscard]] std::vector<ViewDraws> draw(const Size& picture, const Size& view, SampleRandom& random) const {
    std::vector<ViewDraws> all;
    for (std::int64_t i = 0; i < count; ++i) {
      ViewDraws draws;
      if (i > 0) draws.crop = CropBox::draw(picture, random.uniform(least_cover, 1), random);
      draws.mirrored = random.uniform() < mirrored;
      if (random.uniform() < affine) draws.affine = draw_affine(view.width, view.height, degrees, shift, random);
      if (random.uniform() < perspective) draws.corners = draw_corners(view.width, view.height, distortion, random);
      if (random.uniform() < colours) draws.colours = ColourDraws::draw(random, spread);
      draws.grey = random.uniform() < grey;
      all.push_back(draws);
    }
    return all;
  }

  /// \param picture [1, 3, H, W] in [0, 1]  \return [draws, 3, view.height, view.width]
  [[nodiscard]] at::Tensor apply(const at::Tensor& picture, const Size& view,
                                 const std::vector<ViewDraws>& draws) const {
    std::vector<at::Tensor> views;
    for (const auto& drawn : draws) {
      auto x = bilinear(drawn.crop ? drawn.crop->of(picture) : picture, view);
      if (drawn.mirrored) x = at::flip(x, {3});
      if (drawn.affine) x = warp(x, *drawn.affine, fill);
      if (drawn.corners) x = warp(x, *drawn.corners, fill);
      if (drawn.colours) x = drawn.colours->apply(x);
      if (drawn.grey) x = grey_of(x).expand_as(x);
      views.push_back(x);
    }
    return at::cat(views);
  }
};

}  // namespace ip2p
