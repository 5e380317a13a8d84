#pragma once

/// \file
/// Affine colour maps that vary over a picture and over its tones (Gharbi, Chen, Barron, Hasinoff and Durand 2017), and
/// their fit to a pair of pictures (Chen, Adams, Wadhwa and Hasinoff 2016).

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// A grid of affine colour maps over columns, rows and tones of a picture, whose corners are the grid's. Between the
/// nodes the maps are interpolated linearly. A colour r, g, b in [0,1] has the tone 0.299 r + 0.587 g + 0.114 b, and a
/// map takes it to a change of colour: for each of r, g, b three factors and a summand.
class BilateralGrid {
 public:
  static constexpr std::int64_t values = 12;  ///< Of a node: three rows of a 3x4 matrix.

  /// Maps that change nothing. \throws Error unless every side is at least 1
  BilateralGrid(std::int64_t columns, std::int64_t rows, std::int64_t tones)
      : columns_(columns), rows_(rows), tones_(tones) {
    require(columns >= 1 && rows >= 1 && tones >= 1, "bilateral grid: expected sides of at least 1, found {}x{}x{}",
            columns, rows, tones);
    maps_.resize(static_cast<std::size_t>(columns * rows * tones * values));
  }

  [[nodiscard]] std::int64_t columns() const { return columns_; }  ///< Nodes along x.
  [[nodiscard]] std::int64_t rows() const { return rows_; }        ///< Nodes along y.
  [[nodiscard]] std::int64_t tones() const { return tones_; }      ///< Nodes from black to white.

  /// All maps: [rows][columns][tones][channel of the change][r, g, b, 1].
  [[nodiscard]] std::span<float> maps() { return maps_; }
  /// The same.
  [[nodiscard]] std::span<const float> maps() const { return maps_; }

  /// The maps of one row of a picture, interpolated along y. \param y in [0,1], clamped
  /// \param row [columns][tones][values], overwritten
  void interpolate_row(float y, std::vector<float>& row) const {
    const auto [index, next, share] = between(y, rows_);
    const auto size = static_cast<std::size_t>(columns_ * tones_ * values);
    const float *first = maps_.data() + static_cast<std::size_t>(index) * size,
                *second = maps_.data() + static_cast<std::size_t>(next) * size;
    row.resize(size);
    for (std::size_t i = 0; i < size; ++i) row[i] = first[i] + share * (second[i] - first[i]);
  }

  /// Where along a row a pixel lies.
  struct Column {
    std::int64_t first = 0;  ///< Offset in a row of maps.
    std::int64_t next = 0;   ///< Distance to the next node's.
    float share = 0;         ///< Of the next node.
  };

  /// \param x in [0,1], clamped
  [[nodiscard]] Column column(float x) const {
    const auto [index, next, share] = between(x, columns_);
    return {index * tones_ * values, (next - index) * tones_ * values, share};
  }

  /// The change of one colour. \param row of `interpolate_row`  \param rgb in [0,1]  \param change overwritten
  void change(const std::vector<float>& row, const Column& place, const float* rgb, float* change) const {
    const auto [tone, next, share] = between(0.299F * rgb[0] + 0.587F * rgb[1] + 0.114F * rgb[2], tones_);
    const float *a = row.data() + place.first + tone * values, *b = a + (next - tone) * values, *c = a + place.next,
                *d = b + place.next;
    const float wd = share * place.share, wb = share - wd, wc = place.share - wd, wa = 1.0F - share - wc;
    float map[values];
    for (std::int64_t i = 0; i < values; ++i) map[i] = wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];
    for (int channel = 0; channel < 3; ++channel) {
      const float* m = map + channel * 4;
      change[channel] = m[0] * rgb[0] + m[1] * rgb[1] + m[2] * rgb[2] + m[3];
    }
  }

  /// The changes of a picture's colours. \param rgb [height][width][3] in [0,1]  \return the same shape
  [[nodiscard]] std::vector<float> changes(std::span<const float> rgb, std::int64_t width, std::int64_t height) const {
    std::vector<float> all(rgb.size()), row;
    for (std::int64_t y = 0; y < height; ++y) {
      interpolate_row(centre(y, height), row);
      for (std::int64_t x = 0; x < width; ++x) {
        const auto i = (y * width + x) * 3;
        change(row, column(centre(x, width)), rgb.data() + i, all.data() + i);
      }
    }
    return all;
  }

  /// Adds `coarse`, whose nodes are all nodes of this grid too, or one alone along a side. The maps of this grid are
  /// then the sum of both everywhere.
  void add(const BilateralGrid& coarse) {
    const auto nested = [](std::int64_t fine, std::int64_t few) {
      return few == 1 || (fine > 1 && (fine - 1) % (few - 1) == 0);
    };
    require(nested(columns_, coarse.columns_) && nested(rows_, coarse.rows_) && nested(tones_, coarse.tones_),
            "bilateral grid: expected nodes among those of {}x{}x{}, found {}x{}x{}", columns_, rows_, tones_,
            coarse.columns_, coarse.rows_, coarse.tones_);
    const auto at_node = [](std::int64_t i, std::int64_t count, std::int64_t of) {
      return between(count == 1 ? 0.0F : static_cast<float>(i) / static_cast<float>(count - 1), of);
    };
    std::vector<float> row;
    float* map = maps_.data();
    for (std::int64_t y = 0; y < rows_; ++y) {
      coarse.interpolate_row(rows_ == 1 ? 0.0F : static_cast<float>(y) / static_cast<float>(rows_ - 1), row);
      for (std::int64_t x = 0; x < columns_; ++x) {
        const auto [column, next_column, share] = at_node(x, columns_, coarse.columns_);
        for (std::int64_t tone = 0; tone < tones_; ++tone, map += values) {
          const auto [low, high, part] = at_node(tone, tones_, coarse.tones_);
          const auto of = [&](std::int64_t c, std::int64_t t) { return row.data() + (c * coarse.tones_ + t) * values; };
          for (std::int64_t i = 0; i < values; ++i) {
            const float left = of(column, low)[i] + part * (of(column, high)[i] - of(column, low)[i]);
            const float right = of(next_column, low)[i] + part * (of(next_column, high)[i] - of(next_column, low)[i]);
            map[i] += left + share * (right - left);
          }
        }
      }
    }
  }

  /// The middle of pixel `i` of `count`, in [0,1].
  static float centre(std::int64_t i, std::int64_t count) {
    return (static_cast<float>(i) + 0.5F) / static_cast<float>(count);
  }

  /// Two neighbouring nodes and the second one's share.
  struct Between {
    std::int64_t index;  ///< The first.
    std::int64_t next;   ///< The second.
    float share;         ///< In [0,1].
  };

  /// Where `place` in [0,1], clamped, lies among `count` nodes.
  static Between between(float place, std::int64_t count) {
    const float scaled = std::clamp(place, 0.0F, 1.0F) * static_cast<float>(count - 1);
    const auto index = std::max<std::int64_t>(std::min(static_cast<std::int64_t>(scaled), count - 2), 0);
    return {index, std::min(index + 1, count - 1), scaled - static_cast<float>(index)};
  }

 private:
  std::int64_t columns_, rows_, tones_;
  std::vector<float> maps_;
};

/// How a grid is fitted.
struct GridFit {
  std::int64_t columns = 1, rows = 1, tones = 1;  ///< Nodes along each side.
  /// What a factor of 1 costs, as a mean square of colours. Holds back maps where the picture does not determine them.
  /// > 0
  double regularisation = 1e-3;
  double summand = 0.3;  ///< What a summand of 1 costs, in those. > 0
  int smoothing = 1;     ///< How often [1 2 1] / 4 along each side is applied to what is summed at the nodes.
};

/// The grid whose maps take the colours of a picture to given changes, each in the least squares of the pixels around
/// its node: sums of the normal equations at the nodes, smoothed, and solved one by one. This is the fast approximation
/// of Chen et al. 2016, as published with Halide (apps/bgu).
/// \param rgb [height][width][3] in [0,1]  \param change the same shape  \param weight [height][width], >= 0
/// \throws Error for costs that are not positive
BilateralGrid fit_bilateral_grid(std::span<const float> rgb, std::span<const float> change,
                                 std::span<const float> weight, std::int64_t width, std::int64_t height,
                                 const GridFit& fit);

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else it is linked
#include "ip2p/upsampling/bilateral_grid_definitions.hpp"
#endif
