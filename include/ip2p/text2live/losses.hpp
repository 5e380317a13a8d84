#pragma once

/// \file
/// The losses of Text2LIVE, each a scalar.

#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/sigmoid.h>

#include <cstdint>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

namespace detail {

/// Rows scaled to length 1; rows of zeros stay zero.
inline at::Tensor unit_rows(const at::Tensor& rows) { return rows / rows.norm(2, {-1}, true).clamp_min(1e-12); }

}  // namespace detail

/// Mean of 2 asin(|x - y| / 2)^2 over all pairs of rows, of length 1 each: half the squared angle between them.
/// \param x [V, D]  \param y [T, D]
inline at::Tensor spherical_distance(const at::Tensor& x, const at::Tensor& y) {
  const auto apart = detail::unit_rows(x).unsqueeze(1) - detail::unit_rows(y).unsqueeze(0);
  return apart.norm(2, {-1}, false).div(2).asin().pow(2).mul(2).mean();
}

/// 1 - cosine between the change of the pictures and the change of the texts, averaged over all pairs.
/// \param pictures [V, D], after minus before  \param texts [T, D], after minus before
inline at::Tensor direction_distance(const at::Tensor& pictures, const at::Tensor& texts) {
  return 1 - at::cosine_similarity(pictures.unsqueeze(1), texts.unsqueeze(0), -1, 1e-8).mean();
}

/// Mean squared difference of two token self-similarities.
inline at::Tensor structure_distance(const at::Tensor& found, const at::Tensor& expected) {
  return at::mse_loss(found, expected);
}

/// Penalty on a layer's opacity: l1 * mean(a) + l0 * mean(2 (sigmoid(5 a) - 1/2)). The second term is a smooth count of
/// non-zero pixels. \param alpha of any shape, in [0, 1]
inline at::Tensor opacity_cost(const at::Tensor& alpha, double l1, double l0) {
  return l1 * alpha.mean() + l0 * ((at::sigmoid(alpha * 5.0) - 0.5) * 2.0).mean();
}

/// Weights of the losses.
struct Text2LiveWeights {
  double structure = 2;                     ///< The structure of tokens is preserved.
  double composition = 1;                   ///< The edited picture matches its text, and changes as the texts do.
  double screen = 1;                        ///< The layer alone, over a green screen, matches its text.
  double sparsity = 6;                      ///< The layer is sparse.
  double alpha_l1 = 0.01, alpha_l0 = 0.01;  ///< Weights of the terms of sparsity.
  double bootstrap = 10;  ///< The layer lies where CLIP sees the region; decays to 0 over `bootstrap_steps`.
  std::int64_t bootstrap_steps = 1000;  ///< Updates, >= 0.

  /// \throws Error for a negative weight
  void validate() const {
    for (const double weight : {structure, composition, screen, sparsity, alpha_l1, alpha_l0, bootstrap}) {
      require(weight >= 0, "Text2Live: weights: expected numbers of at least 0, found {}", weight);
    }
    require(bootstrap_steps >= 0, "Text2Live: bootstrap_steps: expected at least 0, found {}", bootstrap_steps);
  }

  /// Weight of the bootstrap in update `step` (0-based): decreases linearly and reaches 0 at the last of its updates.
  [[nodiscard]] double bootstrap_at(std::int64_t step) const {
    if (step >= bootstrap_steps) return 0.0;
    return bootstrap * (1.0 - static_cast<double>(step + 1) / static_cast<double>(bootstrap_steps));
  }
};

/// The losses of one update; those with weight 0 are undefined.
struct Text2LiveTerms {
  at::Tensor total;  ///< Their weighted sum.
  /// Each as `Text2LiveWeights` names it, unweighted scalars; `edited` and `direction` are the composition.
  at::Tensor structure, edited, direction, screen, sparsity, bootstrap;
};

}  // namespace ip2p
