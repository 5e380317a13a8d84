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

/// Rows of length 1; a row of zeros stays one.
inline at::Tensor unit_rows(const at::Tensor& rows) { return rows / rows.norm(2, {-1}, true).clamp_min(1e-12); }

}  // namespace detail

/// Mean of 2 asin(|x - y| / 2)^2 over all pairs of rows, of length 1 each: half the squared angle between them.
/// \param x [V, D]  \param y [T, D]
inline at::Tensor spherical_distance(const at::Tensor& x, const at::Tensor& y) {
  const auto apart = detail::unit_rows(x).unsqueeze(1) - detail::unit_rows(y).unsqueeze(0);
  return apart.norm(2, {-1}, false).div(2).asin().pow(2).mul(2).mean();
}

/// 1 - the cosine between what changed in the pictures and what changed in the texts, the mean over all pairs.
/// \param pictures [V, D], after minus before  \param texts [T, D], after minus before
inline at::Tensor direction_distance(const at::Tensor& pictures, const at::Tensor& texts) {
  return 1 - at::cosine_similarity(pictures.unsqueeze(1), texts.unsqueeze(0), -1, 1e-8).mean();
}

/// Mean squared difference of two self-similarities of tokens.
inline at::Tensor structure_distance(const at::Tensor& found, const at::Tensor& expected) {
  return at::mse_loss(found, expected);
}

/// How much of a layer is there: l1 * mean(a) + l0 * mean(2 (sigmoid(5 a) - 1/2)), the second a smooth count of what is
/// not 0. \param alpha of any shape, in [0, 1]
inline at::Tensor opacity_cost(const at::Tensor& alpha, double l1, double l0) {
  return l1 * alpha.mean() + l0 * ((at::sigmoid(alpha * 5.0) - 0.5) * 2.0).mean();
}

/// What the losses count.
struct Text2LiveWeights {
  double structure = 2;                     ///< The layout of tokens stays.
  double composition = 1;                   ///< The edited picture is what its text says, and changed as the texts do.
  double screen = 1;                        ///< The layer alone, before a green screen, is what its text says.
  double sparsity = 6;                      ///< The layer is small and clear.
  double alpha_l1 = 0.01, alpha_l0 = 0.01;  ///< Of which sparsity is made.
  double bootstrap = 10;  ///< The layer lies where CLIP sees the region; falls to 0 over `bootstrap_steps`.
  std::int64_t bootstrap_steps = 1000;  ///< Updates, >= 0.

  /// \throws Error for a negative weight
  void validate() const {
    for (const double weight : {structure, composition, screen, sparsity, alpha_l1, alpha_l0, bootstrap}) {
      require(weight >= 0, "Text2Live: weights: expected numbers of at least 0, found {}", weight);
    }
    require(bootstrap_steps >= 0, "Text2Live: bootstrap_steps: expected at least 0, found {}", bootstrap_steps);
  }

  /// Weight of the bootstrap in update `step` (0-based): falls on a line, and reaches 0 with the last of its updates.
  [[nodiscard]] double bootstrap_at(std::int64_t step) const {
    if (step >= bootstrap_steps) return 0.0;
    return bootstrap * (1.0 - static_cast<double>(step + 1) / static_cast<double>(bootstrap_steps));
  }
};

/// The losses of one update. Those of weight 0 are undefined.
struct Text2LiveTerms {
  at::Tensor total;  ///< Their weighted sum.
  /// Each as `Text2LiveWeights` names it, unweighted scalars; `edited` and `direction` are the composition.
  at::Tensor structure, edited, direction, screen, sparsity, bootstrap;
};

}  // namespace ip2p
