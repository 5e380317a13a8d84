#pragma once

/// \file
/// Differentiable rotation, translation and perspective warps of pictures, with torchvision's arithmetic.

#include <ATen/ops/cat.h>
#include <ATen/ops/grid_sampler.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"

namespace ip2p {

/// A rotation about the centre of a picture, followed by a shift.
struct AffineDraws {
  double degrees = 0;                ///< Clockwise.
  std::int64_t right = 0, down = 0;  ///< In pixels.
};

/// Corners (x, y) of a picture in pixels: top left, top right, bottom right, bottom left.
using Corners = std::array<std::array<std::int64_t, 2>, 4>;

namespace detail {

/// Homogeneous coordinates (x, y, 1) of every pixel, [h w, 3], starting at (first_x, first_y).
inline at::Tensor pixel_places(std::int64_t h, std::int64_t w, double first_x, double first_y,
                               const at::TensorOptions& options) {
  const auto x = at::linspace(first_x, first_x + static_cast<double>(w - 1), w, options).view({1, w}).expand({h, w});
  const auto y = at::linspace(first_y, first_y + static_cast<double>(h - 1), h, options).view({h, 1}).expand({h, w});
  return at::stack({x, y, at::ones({h, w}, options)}, -1).view({h * w, 3});
}

/// A matrix from its values in row-major order.
inline at::Tensor matrix_of(const std::vector<double>& values, std::int64_t rows, const at::TensorOptions& options) {
  const auto matrix = at::tensor(at::ArrayRef<double>(values), at::kDouble).view({rows, -1});
  return to_device(matrix.to(options.device(at::kCPU)), options.device());
}

/// Samples `picture` [1, 3, h, w] bilinearly at the points `grid` [h w, 2] in [-1, 1]; `fill` outside of it.
inline at::Tensor sampled(const at::Tensor& picture, const at::Tensor& grid, double fill) {
  const auto h = picture.size(2), w = picture.size(3);
  const auto covered = at::cat({picture, at::ones_like(picture.narrow(1, 0, 1))}, 1);
  const auto seen = at::grid_sampler(covered, grid.view({1, h, w, 2}), /*bilinear*/ 0, /*zeros*/ 0, false);
  const auto cover = seen.narrow(1, 3, 1);
  return seen.narrow(1, 0, 3) * cover + (1 - cover) * fill;
}

/// The eight coefficients of the projective map that takes `from` to `to`.
inline std::vector<double> projective_map(const Corners& from, const Corners& to) {
  std::vector<double> rows, places;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto x = static_cast<double>(from[i][0]), y = static_cast<double>(from[i][1]);
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const auto goal = static_cast<double>(to[i][axis]);
      const bool first = axis == 0;
      const std::array<double, 8> row{first ? x : 0, first ? y : 0,   first ? 1.0 : 0, first ? 0 : x,
                                      first ? 0 : y, first ? 0 : 1.0, -goal * x,       -goal * y};
      rows.insert(rows.end(), row.begin(), row.end());
      places.push_back(goal);
    }
  }
  const auto solved = at::linalg_solve(matrix_of(rows, 8, at::kDouble), matrix_of(places, 8, at::kDouble)).contiguous();
  return {solved.const_data_ptr<double>(), solved.const_data_ptr<double>() + 8};
}

}  // namespace detail

/// Applies a rotation and a shift. \param picture [1, 3, h, w]  \param fill value outside the picture  \return the same
/// size
inline at::Tensor warp(const at::Tensor& picture, const AffineDraws& draws, double fill) {
  const auto h = static_cast<double>(picture.size(2)), w = static_cast<double>(picture.size(3));
  const double angle = draws.degrees * std::numbers::pi / 180, c = std::cos(angle), s = std::sin(angle);
  const auto dx = static_cast<double>(draws.right), dy = static_cast<double>(draws.down);
  const auto places =
      detail::pixel_places(picture.size(2), picture.size(3), 0.5 - w / 2, 0.5 - h / 2, picture.options());
  // Source of each pixel: the inverse shift, then the inverse rotation; in units of half the picture.
  const auto back = detail::matrix_of({c, s, -c * dx - s * dy, -s, c, s * dx - c * dy}, 2, picture.options());
  const auto halves = detail::matrix_of({w / 2, h / 2}, 1, picture.options());
  return detail::sampled(picture, places.matmul(back.t() / halves), fill);
}

/// Applies a perspective warp. \param corners where the picture's own corners go  \param fill value outside the picture
inline at::Tensor warp(const at::Tensor& picture, const Corners& corners, double fill) {
  const auto height = picture.size(2), width = picture.size(3);
  const Corners own{{{0, 0}, {width - 1, 0}, {width - 1, height - 1}, {0, height - 1}}};
  const auto m = detail::projective_map(corners, own);
  const auto options = picture.options();
  const auto places = detail::pixel_places(height, width, 0.5, 0.5, options);
  const auto halves = detail::matrix_of({static_cast<double>(width) / 2, static_cast<double>(height) / 2}, 1, options);
  const auto above = detail::matrix_of({m[0], m[1], m[2], m[3], m[4], m[5]}, 2, options).t() / halves;
  const auto below = detail::matrix_of({m[6], m[7], 1.0}, 1, options).t();
  return detail::sampled(picture, places.matmul(above) / places.matmul(below) - 1, fill);
}

/// A rotation of up to `degrees` either way, and a shift of up to a fraction `shift` of each side.
inline AffineDraws draw_affine(std::int64_t width, std::int64_t height, double degrees, double shift,
                               SampleRandom& random) {
  const auto pixels = [&](std::int64_t side) {
    const double most = shift * static_cast<double>(side);
    return std::llround(random.uniform(-most, most));
  };
  AffineDraws draws{.degrees = random.uniform(-degrees, degrees)};
  draws.right = pixels(width);
  draws.down = pixels(height);
  return draws;
}

/// Every corner moves inwards by up to a fraction `distortion` of half of each side.
inline Corners draw_corners(std::int64_t width, std::int64_t height, double distortion, SampleRandom& random) {
  const auto most = [&](std::int64_t side) {
    return static_cast<std::int64_t>(distortion * static_cast<double>(side / 2));
  };
  const auto near = [&](std::int64_t side) { return random.below(most(side) + 1); };
  const auto far = [&](std::int64_t side) { return side - 1 - random.below(most(side) + 1); };
  Corners corners;
  corners[0] = {near(width), near(height)};
  corners[1] = {far(width), near(height)};
  corners[2] = {far(width), far(height)};
  corners[3] = {near(width), far(height)};
  return corners;
}

}  // namespace ip2p
