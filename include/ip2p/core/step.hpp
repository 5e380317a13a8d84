#pragma once

/// \file
/// The current position in a sampling run.

#include <cstdint>

namespace ip2p {

/// One evaluation of the denoiser inside a sampling run; passed to guidance, attention and progress policies.
struct Step {
  std::int64_t index = 0;  ///< 0-based number of the step.
  std::int64_t count = 1;  ///< Steps in the whole run, >= 1.
  double sigma = 0.0;  ///< Noise level at which the denoiser is evaluated (k-diffusion convention, x = x0 + sigma*n).
  double sigma_next = 0.0;  ///< Noise level at the end of the step.

  /// Progress through the run: 0 at the first step, 1 at the last (0 if there is only one).
  [[nodiscard]] constexpr double progress() const {
    return count > 1 ? static_cast<double>(index) / static_cast<double>(count - 1) : 0.0;
  }
};

}  // namespace ip2p
