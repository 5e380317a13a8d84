#pragma once

/// \file
/// Random changes of a picture's colours, with torchvision's arithmetic.

#include <ATen/ops/cat.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/remainder.h>
#include <ATen/ops/where.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Luma. \param pictures [B, 3, H, W]  \return [B, 1, H, W]
inline at::Tensor grey_of(const at::Tensor& pictures) {
  return 0.2989 * pictures.narrow(1, 0, 1) + 0.587 * pictures.narrow(1, 1, 1) + 0.114 * pictures.narrow(1, 2, 1);
}

/// Rotates the hue by a fraction of the circle; saturation and value do not change. \param pictures [B, 3, H, W] in [0,
/// 1]
inline at::Tensor turn_hue(const at::Tensor& pictures, double turn) {
  const auto r = pictures.narrow(1, 0, 1), g = pictures.narrow(1, 1, 1), b = pictures.narrow(1, 2, 1);
  const auto value = pictures.amax({1}, true);
  const auto chroma = value - pictures.amin({1}, true);
  const auto span = at::where(chroma.eq(0), at::ones_like(chroma), chroma);
  const auto sixths =
      at::where(r.eq(value), (g - b) / span, at::where(g.eq(value), 2 + (b - r) / span, 4 + (r - g) / span));
  std::vector<at::Tensor> channels;
  for (const double from : {5.0, 3.0, 1.0}) {  // where on the hue hexagon the channel begins to fall
    const auto place = at::remainder(sixths + (from + 6 * turn), 6);
    channels.push_back(value - chroma * at::minimum(place, 4 - place).clamp(0, 1));
  }
  return at::cat(channels, 1).clamp(0, 1);
}

/// Random choices for one colour jitter.
struct ColourDraws {
  /// Places in `order` and `amount`: `brightness`, `contrast`, `saturation` and `hue`.
  enum Change : std::size_t { brightness, contrast, saturation, hue };

  std::array<std::size_t, 4> order{brightness, contrast, saturation, hue};  ///< In which the changes are applied.
  std::array<double, 4> amount{1, 1, 1, 0};  ///< By `Change`: three factors, then the hue's rotation in [-0.5, 0.5].

  /// Factors in [1 - spread, 1 + spread), a rotation in [-spread, spread), a random order.
  static ColourDraws draw(SampleRandom& random, double spread) {
    ColourDraws draws;
    for (const auto change : {brightness, contrast, saturation}) {
      draws.amount[change] = random.uniform(1 - spread, 1 + spread);
    }
    draws.amount[hue] = random.uniform(-spread, spread);
    for (std::size_t left = draws.order.size(); left > 1; --left) {
      std::swap(draws.order[left - 1],
                draws.order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(left)))]);
    }
    return draws;
  }

  /// \param picture [1, 3, H, W] in [0, 1]  \return the same
  [[nodiscard]] at::Tensor apply(at::Tensor picture) const {
    const auto blend = [&](const at::Tensor& other, double factor) {
      return (factor * picture + (1 - factor) * other).clamp(0, 1);
    };
    for (const auto change : order) {
      const double by = amount[change];
      if (change == brightness) {
        picture = (picture * by).clamp(0, 1);
      } else if (change == contrast) {
        picture = blend(grey_of(picture).mean(), by);
      } else if (change == saturation) {
        picture = blend(grey_of(picture), by);
      } else {
        picture = turn_hue(picture, by);
      }
    }
    return picture;
  }
};

}  // namespace ip2p
