#pragma once

/// \file
/// The posterior over latents from a variational codec.

#include <ATen/ops/exp.h>

#include <utility>

#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Diagonal Gaussian over latents; both tensors are [B, C, h, w].
struct LatentMoments {
  static constexpr double least_logvar = -30.0;  ///< As in the reference: a deviation of 3e-7.
  static constexpr double most_logvar = 20.0;    ///< As in the reference.

  at::Tensor mean;    ///< Also the mode.
  at::Tensor logvar;  ///< Log variance, clamped to the range above; undefined if there is no variance.

  /// A posterior without variance, at `latents`.
  static LatentMoments certain(at::Tensor latents) { return {std::move(latents), {}}; }

  /// mean + exp(logvar / 2) * noise. \param noise standard normal of the same shape, or [R,C,h,w] for R samples of one
  /// picture
  [[nodiscard]] at::Tensor sample(const at::Tensor& noise) const {
    if (!logvar.defined()) return mean;
    return mean + at::exp(0.5 * logvar) * noise.to(mean.device(), mean.scalar_type());
  }
};

}  // namespace ip2p
