#pragma once

/// \file
/// Random resizing, cropping and mirroring, applied alike to both pictures of a pair.

#include <ATen/ops/flip.h>

#include <cstdint>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/data/picture_pairs.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/resample.hpp"

namespace ip2p {

/// Two pictures as network input: float [3,crop,crop] in [-1,1].
struct PreparedPair {
  at::Tensor before, after;  ///< The two pictures.
};

/// Random choices for one pair.
struct PairDraws {
  std::int64_t side = 0;           ///< Shorter side after resizing, or both sides (`PairShape::square`).
  std::int64_t top = 0, left = 0;  ///< Corner of the crop in the resized picture.
  bool mirrored = false;           ///< Left to right, both pictures.

  friend bool operator==(const PairDraws&, const PairDraws&) = default;
};

/// How resizing treats a picture's aspect ratio. Only matters for pictures that are not square; the published sets are
/// square.
enum class PairShape {
  kept,    ///< The shorter side gets the drawn size, the longer one is scaled to match.
  square,  ///< Both sides get it, which distorts the picture, as the released `EditDataset` does.
};

/// Resizes to a random whole number of pixels (Lanczos), crops a random square, mirrors half of the time.
///
/// The defaults are the paper's and keep the aspect ratio; `released()` matches the released program's configuration.
struct PairAugmentation {
  std::int64_t smallest = 256, largest = 288;  ///< Range of the drawn size, inclusive.
  std::int64_t crop = 256;                     ///< Side of the square, at most `smallest`.
  double mirror = 0.5;                         ///< Probability of mirroring left to right.
  PairShape shape = PairShape::kept;           ///< What becomes of pictures that are not square.

  /// The released program's `EditDataset` with its configuration: both pictures resized to 256 x 256 regardless of
  /// their aspect ratio, so the crop is the whole picture; half of them mirrored.
  [[nodiscard]] static PairAugmentation released() { return {256, 256, 256, 0.5, PairShape::square}; }

  /// \throws Error unless 1 <= crop <= smallest <= largest and mirror is in [0, 1]
  void validate() const {
    require(crop >= 1 && crop <= smallest && smallest <= largest,
            "pair augmentation: expected 1 <= crop <= smallest <= largest, found crop {}, smallest {}, largest {}",
            crop, smallest, largest);
    require(mirror >= 0 && mirror <= 1, "pair augmentation: expected a share of mirrored pairs from 0 to 1, found {}",
            mirror);
  }

  /// Size of a picture whose shorter side becomes `side`; the longer one is truncated to whole pixels, as in
  /// torchvision.
  [[nodiscard]] static Size resized(std::int64_t width, std::int64_t height, std::int64_t side) {
    return width <= height ? Size{side, side * height / width} : Size{side * width / height, side};
  }

  /// Size of a picture for which `side` was drawn.
  [[nodiscard]] Size size_for(std::int64_t width, std::int64_t height, std::int64_t side) const {
    return shape == PairShape::square ? Size{side, side} : resized(width, height, side);
  }

  /// Always draws four numbers, so that later draws do not depend on the settings.
  [[nodiscard]] PairDraws draw(std::int64_t width, std::int64_t height, SampleRandom& random) const {
    validate();
    PairDraws draws;
    draws.side = smallest + random.below(largest - smallest + 1);
    const auto size = size_for(width, height, draws.side);
    draws.top = random.below(size.height - crop + 1);
    draws.left = random.below(size.width - crop + 1);
    draws.mirrored = random.uniform() < mirror;
    return draws;
  }

  /// One picture with these choices applied. \return float [3,crop,crop], 2 x / 255 - 1
  [[nodiscard]] at::Tensor apply(const Image& picture, const PairDraws& draws) const {
    const auto size = size_for(picture.width, picture.height, draws.side);
    require(draws.top >= 0 && draws.left >= 0 && draws.top + crop <= size.height && draws.left + crop <= size.width,
            "pair augmentation: expected a crop inside {}x{}, found {}x{} at left {}, top {}", size.width, size.height,
            crop, crop, draws.left, draws.top);
    const auto pixels = to_tensor(resize(picture, size.width, size.height, Filter::lanczos));
    const auto square = pixels.narrow(1, draws.top, crop).narrow(2, draws.left, crop);
    const auto values = square.to(at::kFloat).mul(2.0).div(255.0).sub(1.0);
    return draws.mirrored ? at::flip(values, {2}) : values.contiguous();
  }

  /// Both pictures of a pair with the same random choices. \throws Error for pictures of different sizes, except with
  /// `PairShape::square`
  [[nodiscard]] PreparedPair operator()(const PairPictures& pair, SampleRandom& random) const {
    const bool alike = pair.before.width == pair.after.width && pair.before.height == pair.after.height;
    require(alike || shape == PairShape::square, "pair '{}': expected pictures of one size, found {}x{} and {}x{}",
            pair.id, pair.before.width, pair.before.height, pair.after.width, pair.after.height);
    const auto draws = draw(pair.before.width, pair.before.height, random);
    return {apply(pair.before, draws), apply(pair.after, draws)};
  }
};

/// Resizes the shorter side to `side` and takes the centre square. \return float [3,side,side] in [-1,1]
inline at::Tensor centre_crop(const Image& picture, std::int64_t side, bool mirrored = false) {
  const auto size = PairAugmentation::resized(picture.width, picture.height, side);
  const PairDraws draws{side, (size.height - side) / 2, (size.width - side) / 2, mirrored};
  return PairAugmentation{side, side, side}.apply(picture, draws);
}

}  // namespace ip2p
