#pragma once

/// \file
/// The definitions behind bilateral_grid.hpp.

#include <Eigen/Cholesky>
#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ip2p/core/definitions.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/upsampling/bilateral_grid.hpp"

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

/// [1 2 1] / 4 along one side of `sums`, with zeros beyond its ends. \param stride between neighbours along it
inline void smooth_side(std::vector<double>& sums, std::size_t count, std::size_t stride) {
  std::vector<double> before(stride), line(stride);
  for (std::size_t start = 0; start < sums.size(); start += count * stride) {
    std::fill(before.begin(), before.end(), 0.0);
    for (std::size_t i = 0; i < count; ++i) {
      double* here = sums.data() + start + i * stride;
      std::copy_n(here, stride, line.begin());
      for (std::size_t j = 0; j < stride; ++j) {
        const double after = i + 1 < count ? here[stride + j] : 0.0;
        here[j] = (before[j] + 2 * line[j] + after) / 4;
      }
      std::swap(before, line);
    }
  }
}

}  // namespace detail

IP2P_INLINE BilateralGrid fit_bilateral_grid(std::span<const float> rgb, std::span<const float> change,
                                             std::span<const float> weight, std::int64_t width, std::int64_t height,
                                             const GridFit& fit) {
  require(fit.regularisation > 0 && fit.summand > 0,
          "bilateral grid: expected costs above 0, found a regularisation of {} and {} for summands",
          fit.regularisation, fit.summand);
  BilateralGrid grid(fit.columns, fit.rows, fit.tones);
  constexpr std::size_t terms = 22;  // the lower half of sum p p', for p = r, g, b, 1, and p times the change
  std::vector<double> sums(static_cast<std::size_t>(fit.columns * fit.rows * fit.tones) * terms);
  for (std::int64_t y = 0; y < height; ++y) {
    const auto [row, next_row, lower] = BilateralGrid::between(BilateralGrid::centre(y, height), fit.rows);
    for (std::int64_t x = 0; x < width; ++x) {
      const auto pixel = static_cast<std::size_t>(y * width + x);
      if (weight[pixel] <= 0) continue;
      const float *colour = rgb.data() + pixel * 3, *to = change.data() + pixel * 3;
      const double p[4] = {colour[0], colour[1], colour[2], 1.0};
      double term[terms];
      std::size_t count = 0;
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t j = 0; j <= i; ++j) term[count++] = p[i] * p[j];
      }
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t channel = 0; channel < 3; ++channel) term[count++] = p[i] * to[channel];
      }
      const auto [column, next_column, right] = BilateralGrid::between(BilateralGrid::centre(x, width), fit.columns);
      const auto [tone, next_tone, higher] =
          BilateralGrid::between(0.299F * colour[0] + 0.587F * colour[1] + 0.114F * colour[2], fit.tones);
      for (int corner = 0; corner < 8; ++corner) {
        const double share = static_cast<double>(weight[pixel]) * ((corner & 4) != 0 ? lower : 1 - lower) *
                             ((corner & 2) != 0 ? right : 1 - right) * ((corner & 1) != 0 ? higher : 1 - higher);
        if (share == 0) continue;
        const auto node =
            (((corner & 4) != 0 ? next_row : row) * fit.columns + ((corner & 2) != 0 ? next_column : column)) *
                fit.tones +
            ((corner & 1) != 0 ? next_tone : tone);
        double* sum = sums.data() + static_cast<std::size_t>(node) * terms;
        for (std::size_t i = 0; i < terms; ++i) sum[i] += share * term[i];
      }
    }
  }
  const auto tones = static_cast<std::size_t>(fit.tones), columns = static_cast<std::size_t>(fit.columns);
  for (int pass = 0; pass < fit.smoothing; ++pass) {
    if (fit.rows > 1) detail::smooth_side(sums, static_cast<std::size_t>(fit.rows), columns * tones * terms);
    if (fit.columns > 1) detail::smooth_side(sums, columns, tones * terms);
    if (fit.tones > 1) detail::smooth_side(sums, tones, terms);
  }
  // Relative to the pixels between two nodes.
  const double pixels =
      static_cast<double>(width * height) /
      static_cast<double>(std::max<std::int64_t>(fit.columns - 1, 1) * std::max<std::int64_t>(fit.rows - 1, 1));
  const double cost = fit.regularisation * pixels;
  float* map = grid.maps().data();
  for (std::size_t node = 0; node < sums.size(); node += terms, map += BilateralGrid::values) {
    Eigen::Matrix4d m;
    std::size_t count = node;
    for (Eigen::Index i = 0; i < 4; ++i) {
      for (Eigen::Index j = 0; j <= i; ++j) m(i, j) = sums[count++];
    }
    m.diagonal() += cost * Eigen::Vector4d(1.0, 1.0, 1.0, fit.summand);
    const Eigen::Map<const Eigen::Matrix<double, 4, 3, Eigen::RowMajor>> b(sums.data() + count);
    const Eigen::Matrix<double, 4, 3> solved = m.llt().solve(b);  // of the lower half
    Eigen::Map<Eigen::Matrix<float, 3, 4, Eigen::RowMajor>> maps(map);
    maps = solved.transpose().cast<float>();
  }
  return grid;
}

}  // namespace ip2p
#endif
