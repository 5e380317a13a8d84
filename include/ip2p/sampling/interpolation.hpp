#pragma once

/// \file
/// Weights of polynomial interpolation, used by the multistep samplers.

#include <cstddef>
#include <span>
#include <vector>

namespace ip2p::detail {

/// The weights w with sum_k w_k nodes_k^i = moments_i for i = 0 ... n - 1. Given values at n distinct nodes, their
/// weighted sum is a linear functional (such as an integral) of the polynomial through them; moments_i is its value for
/// the i-th power. `moments` may be longer than `nodes`.
inline std::vector<double> interpolation_weights(std::span<const double> nodes, std::span<const double> moments) {
  std::vector<double> weights;
  weights.reserve(nodes.size());
  for (std::size_t k = 0; k < nodes.size(); ++k) {
    // Coefficients of the Lagrange polynomial that is 1 at node k and 0 at the others, lowest power first.
    std::vector<double> basis{1.0};
    for (std::size_t j = 0; j < nodes.size(); ++j) {
      if (j == k) continue;
      basis.push_back(0.0);
      const double gap = nodes[k] - nodes[j];
      for (std::size_t i = basis.size(); i-- > 0;) {
        basis[i] = ((i > 0 ? basis[i - 1] : 0.0) - nodes[j] * basis[i]) / gap;
      }
    }
    double weight = 0.0;
    for (std::size_t i = 0; i < basis.size(); ++i) weight += basis[i] * moments[i];
    weights.push_back(weight);
  }
  return weights;
}

}  // namespace ip2p::detail
