#pragma once

/// \file
/// The posterior over latents that a variational codec gives.

#include <ATen/ops/exp.h>

#include <utility>

#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Diagonal Gaussian over latents, each [B, C, h, w].
struct LatentMoments {
  at::Tensor mean;    ///< Also the mode.
  at::Tensor logvar;  ///< Clamped to [-30, 20] as the reference does; undefined: no variance.

  /// The posterior of a codec that has no variance: `latents` themselves.
  static LatentMoments certain(at::Tensor latents) { return {std::move(latents), {}}; }

  /// mean + exp(logvar / 2) * noise. \param noise standard normal of the same shape, or [R,C,h,w] for R samples of one
  /// picture
  [[nodiscard]] at::Tensor sample(const at::Tensor& noise) const {
    if (!logvar.defined()) return mean;
    return mean + at::exp(0.5 * logvar) * noise.to(mean.device(), mean.scalar_type());
  }
};

}  // namespace ip2p
