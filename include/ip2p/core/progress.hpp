#pragma once

/// \file
/// Progress and cancellation of long runs.

#include <functional>
#include <stop_token>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Hooks of a sampling run. A default-constructed value changes and observes nothing and never cancels.
struct RunHooks {
  /// A change of latents between steps.
  using Revise = std::function<at::Tensor(const Step&, const at::Tensor& latents)>;

  /// Called after each step with the latents it produced, at noise level `step.sigma_next`; the run goes on from what
  /// it returns, of the same shape and dtype. So an edit holds part of the picture in place (LocalBlend, inpainting)
  /// with any sampler.
  Revise revise = {};

  /// Called after each step, and after `revise`, with the latents [B,C,h,w] (sigma-scaled, not decoded).
  std::function<void(const Step&, const at::Tensor& latents)> on_step = {};

  /// Checked before each step; a requested stop ends the run with `Cancelled`.
  std::stop_token stop = {};

  /// Throws `Cancelled` if a stop was requested.
  void check(const Step& step) const {
    if (stop.stop_requested()) {
      throw Cancelled(fmt::format("cancelled before step {} of {}", step.index + 1, step.count));
    }
  }

  /// Ends a step: the latents as `revise` leaves them, shown to `on_step`. Throws `Error` if `revise` answers another
  /// shape or dtype.
  [[nodiscard]] at::Tensor finish(const Step& step, at::Tensor latents) const {
    if (revise) {
      at::Tensor revised = revise(step, latents);
      require(
          revised.defined() && revised.sizes() == latents.sizes() && revised.scalar_type() == latents.scalar_type(),
          "revise: expected latents {} {}, found {}", c10::toString(latents.scalar_type()), shape_text(latents.sizes()),
          revised.defined() ? fmt::format("{} {}", c10::toString(revised.scalar_type()), shape_text(revised.sizes()))
                            : "no tensor");
      latents = std::move(revised);
    }
    if (on_step) on_step(step, latents);
    return latents;
  }
};

/// Both changes in turn; either may be empty.
inline RunHooks::Revise revise_in_turn(RunHooks::Revise first, RunHooks::Revise second) {
  if (!first) return second;
  if (!second) return first;
  return [first = std::move(first), second = std::move(second)](const Step& step, const at::Tensor& latents) {
    return second(step, first(step, latents));
  };
}

}  // namespace ip2p
