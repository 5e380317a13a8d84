#pragma once

/// \file
/// How ancestral samplers, DDIM and DDPM split a step into a deterministic part and noise.

#include <algorithm>
#include <cmath>

namespace ip2p {

/// An ancestral step from one noise level to a lower one: a deterministic part, then fresh noise.
struct AncestralStep {
  double down;  ///< Noise level that the deterministic part goes to.
  double up;    ///< Standard deviation of the noise added there; down^2 + up^2 = sigma_next^2.
};

/// k-diffusion's `get_ancestral_step`: up = min(s', eta sqrt(s'^2 (s^2 - s'^2) / s^2)), down = sqrt(s'^2 - up^2).
/// With s = sigma and s' = sigma_next. eta = 1 gives the posterior variance of DDPM, eta = 0 is deterministic, and
/// values in between follow equation (16) of DDIM, which is the same in latents scaled by sqrt(1 + sigma^2).
inline AncestralStep ancestral_step(double sigma, double sigma_next, double eta) {
  const double s2 = sigma * sigma;
  const double next2 = sigma_next * sigma_next;
  const double up = std::min(sigma_next, eta * std::sqrt(next2 * (s2 - next2) / s2));
  return {.down = std::sqrt(std::max(0.0, next2 - up * up)), .up = up};
}

}  // namespace ip2p
