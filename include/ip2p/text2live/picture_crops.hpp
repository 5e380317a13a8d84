#pragma once

/// \file
/// Draws training examples from the one picture to be edited.

#include <ATen/ops/flip.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"
#include "ip2p/text2live/augmentations.hpp"
#include "ip2p/text2live/colour_jitter.hpp"
#include "ip2p/text2live/edit_layer.hpp"

namespace ip2p {

/// Random choices for one example.
struct PictureDraws {
  std::optional<ColourDraws> colours{};  ///< Change of colours; none without.
  bool mirrored = false;                 ///< Left to right.
  Size size{};                           ///< Of the scaled picture.
  CropBox crop{};                        ///< Of the scaled picture.
};

/// How examples are made from the picture: colours, mirroring, scale, crop. The defaults are the published ones.
struct PictureCrops {
  double colours = 0.1, mirrored = 0.5;        ///< Probabilities.
  double spread = 0.1;                         ///< Strength of the colour jitter, in [0, 0.5].
  double least_scale = 0.8, most_scale = 1.2;  ///< 0 < least <= most
  double least_cover = 0.85;                   ///< Smallest fraction of each side of the scaled picture, in (0, 1].

  /// \throws Error for values out of range
  void validate() const {
    require(colours >= 0 && colours <= 1 && mirrored >= 0 && mirrored <= 1,
            "picture crops: expected shares in [0, 1], found {} and {}", colours, mirrored);
    require(spread >= 0 && spread <= 0.5, "picture crops: spread: expected a value in [0, 0.5], found {}", spread);
    require(least_scale > 0 && least_scale <= most_scale,
            "picture crops: scale: expected 0 < least <= most, found {} and {}", least_scale, most_scale);
    require(least_cover > 0 && least_cover <= 1, "picture crops: least_cover: expected a share in (0, 1], found {}",
            least_cover);
  }

  /// Shorter side in pixels of the smallest example of a picture.
  [[nodiscard]] std::int64_t shortest_side(const Size& picture) const {
    const auto shorter = static_cast<double>(std::min(picture.width, picture.height));
    return static_cast<std::int64_t>(static_cast<double>(static_cast<std::int64_t>(shorter * least_scale)) *
                                     least_cover);
  }

  /// Draws one example of a picture of that size.
  [[nodiscard]] PictureDraws draw(const Size& picture, SampleRandom& random) const {
    PictureDraws draws;
    if (random.uniform() < colours) draws.colours = ColourDraws::draw(random, spread);
    draws.mirrored = random.uniform() < mirrored;
    const double scale = random.uniform(least_scale, most_scale);
    draws.size = {static_cast<std::int64_t>(static_cast<double>(picture.width) * scale),
                  static_cast<std::int64_t>(static_cast<double>(picture.height) * scale)};
    draws.crop = CropBox::draw(draws.size, random.uniform(least_cover, 1), random);
    return draws;
  }

  /// Scaled with Pillow's bilinear filter. \return [1, 3, h, w] in [0, 1]
  [[nodiscard]] static at::Tensor apply(const Image& picture, const PictureDraws& draws) {
    auto seen = draws.colours ? picture_of(draws.colours->apply(unit_picture(picture))) : picture;
    if (draws.mirrored) seen = from_tensor(at::flip(to_tensor(seen), {2}));
    return draws.crop.of(unit_picture(resize(seen, draws.size.width, draws.size.height, Filter::bilinear)))
        .contiguous();
  }
};

}  // namespace ip2p
