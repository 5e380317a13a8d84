#pragma once

/// \file
/// Structural similarity with the settings of the paper that introduced it (Wang et al. 2004).

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/image_types.hpp"

namespace ip2p {

namespace detail {

/// One number per pixel.
struct Plane {
  std::int64_t width = 0, height = 0;
  std::vector<double> values;

  [[nodiscard]] double at(std::int64_t x, std::int64_t y) const {
    return values[static_cast<std::size_t>(y * width + x)];
  }
};

constexpr std::int64_t ssim_radius = 5;

/// Gaussian with deviation 1.5, truncated at 5 pixels, sum 1.
inline const std::array<double, 2 * ssim_radius + 1>& ssim_window() {
  static const auto window = [] {
    std::array<double, 2 * ssim_radius + 1> weights{};
    double sum = 0.0;
    for (std::int64_t i = -ssim_radius; i <= ssim_radius; ++i) {
      sum += weights[static_cast<std::size_t>(i + ssim_radius)] = std::exp(-0.5 * static_cast<double>(i * i) / 2.25);
    }
    for (auto& weight : weights) weight /= sum;
    return weights;
  }();
  return window;
}

/// Weighted means over the window where it lies fully inside; 10 pixels smaller in each direction.
inline Plane ssim_blur(const Plane& plane) {
  const auto& window = ssim_window();
  constexpr auto taps = 2 * ssim_radius + 1;
  Plane rows{plane.width - taps + 1, plane.height, {}};
  rows.values.reserve(static_cast<std::size_t>(rows.width * rows.height));
  for (std::int64_t y = 0; y < rows.height; ++y) {
    for (std::int64_t x = 0; x < rows.width; ++x) {
      double sum = 0.0;
      for (std::int64_t t = 0; t < taps; ++t) sum += window[static_cast<std::size_t>(t)] * plane.at(x + t, y);
      rows.values.push_back(sum);
    }
  }
  Plane both{rows.width, rows.height - taps + 1, {}};
  both.values.reserve(static_cast<std::size_t>(both.width * both.height));
  for (std::int64_t y = 0; y < both.height; ++y) {
    for (std::int64_t x = 0; x < both.width; ++x) {
      double sum = 0.0;
      for (std::int64_t t = 0; t < taps; ++t) sum += window[static_cast<std::size_t>(t)] * rows.at(x, y + t);
      both.values.push_back(sum);
    }
  }
  return both;
}

/// Similarity at each pixel that is at least 5 pixels from every border, mean over the channels.
inline Plane ssim_map(const Image& a, const Image& b) {
  require_consistent(a, "ssim");
  require_consistent(b, "ssim");
  require(a.width == b.width && a.height == b.height, "ssim: expected pictures of one size, found {}x{} and {}x{}",
          a.width, a.height, b.width, b.height);
  require(a.width > 2 * ssim_radius && a.height > 2 * ssim_radius, "ssim: expected at least 11x11 pixels, found {}x{}",
          a.width, a.height);
  constexpr double c1 = (0.01 * 255) * (0.01 * 255), c2 = (0.03 * 255) * (0.03 * 255);
  Plane map;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const auto blurred = [&](auto&& of) {
      Plane plane{a.width, a.height, {}};
      for (std::size_t i = channel; i < a.pixels.size(); i += 3) plane.values.push_back(of(a.pixels[i], b.pixels[i]));
      return ssim_blur(plane);
    };
    const auto mean_a = blurred([](double x, double) { return x; });
    const auto mean_b = blurred([](double, double y) { return y; });
    const auto square_a = blurred([](double x, double) { return x * x; });
    const auto square_b = blurred([](double, double y) { return y * y; });
    const auto product = blurred([](double x, double y) { return x * y; });
    if (channel == 0) map = {mean_a.width, mean_a.height, std::vector<double>(mean_a.values.size())};
    for (std::size_t i = 0; i < map.values.size(); ++i) {
      const double ma = mean_a.values[i], mb = mean_b.values[i];
      const double va = square_a.values[i] - ma * ma, vb = square_b.values[i] - mb * mb;
      const double covariance = product.values[i] - ma * mb;
      map.values[i] += (2 * ma * mb + c1) * (2 * covariance + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2)) / 3;
    }
  }
  return map;
}

}  // namespace detail

/// Mean structural similarity of two pictures, 1 for equal ones: Gaussian window of deviation 1.5 and 11x11 pixels,
/// population covariances, K1 .01 and K2 .03 of 255 levels, mean over channels and over the pixels whose window lies
/// inside (scikit-image's `structural_similarity` with `gaussian_weights`, `sigma=1.5`, `use_sample_covariance=False`).
/// \throws Error for pictures of different sizes or below 11x11
inline double ssim(const Image& a, const Image& b) {
  const auto map = detail::ssim_map(a, b);
  double sum = 0.0;
  for (const double value : map.values) sum += value;
  return sum / static_cast<double>(map.values.size());
}

}  // namespace ip2p
