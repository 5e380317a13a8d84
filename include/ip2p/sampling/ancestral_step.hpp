#pragma once

/// \file
/// How ancestral samplers divide a step, and what DDIM and DDPM share with them.

#include <algorithm>
#include <cmath>

namespace ip2p {

/// How an ancestral step from one noise level to a lower one divides into a deterministic part and fresh noise.
struct AncestralStep {
  double down;  ///< Noise level that the deterministic part goes to.
  double up;    ///< Standard deviation of the noise added there; down^2 + up^2 = sigma_next^2.
};

/// k-diffusion's `get_ancestral_step`: up = min(s', eta sqrt(s'^2 (s^2 - s'^2) / s^2)), down = sqrt(s'^2 - up^2).
/// eta 1 is the posterior variance of DDPM, 0 is deterministic, and between them is equation (16) of DDIM, which in
/// latents scaled by sqrt(1 + sigma^2) reads the same.
inline AncestralStep ancestral_step(double sigma, double sigma_next, double eta) {
  const double s2 = sigma * sigma;
  const double next2 = sigma_next * sigma_next;
  const double up = std::min(sigma_next, eta * std::sqrt(next2 * (s2 - next2) / s2));
  return {.down = std::sqrt(std::max(0.0, next2 - up * up)), .up = up};
}

}  // namespace ip2p
