#pragma once

/// \file
/// A fast, coarse decoder for previews: a linear map from latents to colours.

#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>

#include <cstdint>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Approximates a codec's decoder by a linear map from the channels of a latent pixel to its mean colour, fitted to
/// pictures whose latents are known. A preview costs next to nothing, is as small as the latents, and knows no detail
/// within a latent pixel. It serves latents of pictures that resemble those it was fitted to.
class LinearPreview {
 public:
  /// The least-squares map, slightly regularised, so that few pixels are enough.
  /// \param latents [B,C,h,w] of `pictures`, as previews will be given them  \param pictures [B,3,h f,w f]
  /// \throws Error for other shapes
  static LinearPreview fitted(const at::Tensor& latents, const at::Tensor& pictures) {
    require(latents.dim() == 4 && pictures.dim() == 4 && pictures.size(1) == 3 && latents.size(0) == pictures.size(0) &&
                pictures.size(2) % latents.size(2) == 0 && pictures.size(3) % latents.size(3) == 0,
            "LinearPreview: expected latents [B,C,h,w] and pictures [B,3,h f,w f], found {} and {}",
            shape_text(latents.sizes()), shape_text(pictures.sizes()));
    const auto h = latents.size(2), w = latents.size(3);
    const auto colours = pictures.to(at::kCPU, at::kDouble)
                             .reshape({-1, 3, h, pictures.size(2) / h, w, pictures.size(3) / w})
                             .mean(at::IntArrayRef({3, 5}));
    const auto inputs = rows_of(latents), outputs = colours.permute({0, 2, 3, 1}).reshape({-1, 3});
    const auto unknowns = inputs.size(1);
    const auto ridge = at::eye(unknowns, inputs.options()).mul(1e-4 * static_cast<double>(inputs.size(0)));
    return LinearPreview(
        at::linalg_solve(inputs.t().matmul(inputs).add(ridge), inputs.t().matmul(outputs)).to(at::kFloat));
  }

  /// Pictures of latents, one pixel each. \param latents [B,C,h,w]  \return [B,3,h,w], fp32 on the CPU, not clamped
  /// \throws Error for other channels than those it was fitted to
  [[nodiscard]] at::Tensor operator()(const at::Tensor& latents) const {
    require(latents.dim() == 4 && latents.size(1) + 1 == weights_.size(0),
            "LinearPreview: expected latents [B,{},h,w], found {}", weights_.size(0) - 1, shape_text(latents.sizes()));
    return rows_of(latents)
        .to(at::kFloat)
        .matmul(weights_)
        .reshape({latents.size(0), latents.size(2), latents.size(3), 3})
        .permute({0, 3, 1, 2});
  }

 private:
  explicit LinearPreview(at::Tensor weights) : weights_(std::move(weights)) {}

  /// A row [C + 1] for each latent pixel, its last value 1.
  static at::Tensor rows_of(const at::Tensor& latents) {
    const auto rows = latents.to(at::kCPU, at::kDouble).permute({0, 2, 3, 1}).reshape({-1, latents.size(1)});
    return at::cat({rows, at::ones({rows.size(0), 1}, rows.options())}, 1);
  }

  at::Tensor weights_;  // [C + 1, 3]
};

}  // namespace ip2p
