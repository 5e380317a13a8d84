#pragma once

/// \file
/// Peak signal-to-noise ratio between two pictures.

#include <cmath>
#include <cstddef>
#include <limits>

#include "ip2p/core/error.hpp"
#include "ip2p/io/image_types.hpp"

namespace ip2p {

/// Peak signal-to-noise ratio 10 log10(255^2 / mean squared difference) over all pixels and channels, in dB; infinite
/// for identical pictures. \throws Error for pictures of different sizes
inline double psnr(const Image& a, const Image& b) {
  require_consistent(a, "psnr");
  require_consistent(b, "psnr");
  require(a.width == b.width && a.height == b.height, "psnr: expected pictures of one size, found {}x{} and {}x{}",
          a.width, a.height, b.width, b.height);
  double sum = 0.0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const double difference = static_cast<double>(a.pixels[i]) - static_cast<double>(b.pixels[i]);
    sum += difference * difference;
  }
  if (sum == 0.0) return std::numeric_limits<double>::infinity();
  return 10.0 * std::log10(255.0 * 255.0 * static_cast<double>(a.pixels.size()) / sum);
}

}  // namespace ip2p
