#pragma once

/// \file
/// Progress and cancellation of long runs.

#include <functional>
#include <stop_token>

#include <ATen/core/Tensor.h>

#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"

namespace ip2p {

/// Hooks of a sampling run. A default-constructed value observes nothing and never cancels.
struct RunHooks {
  /// Called after each step with the step and the latents it produced, [B,C,h,w] (sigma-scaled, not decoded).
  std::function<void(const Step&, const at::Tensor& latents)> on_step = {};

  /// Checked before each step; a requested stop ends the run with `Cancelled`.
  std::stop_token stop = {};

  /// Throws `Cancelled` if a stop was requested.
  void check(const Step& step) const {
    if (stop.stop_requested()) {
      throw Cancelled(fmt::format("cancelled before step {} of {}", step.index + 1, step.count));
    }
  }
};

}  // namespace ip2p
