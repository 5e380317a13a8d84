#pragma once

/// \file
/// Progress reports and cancellation for long runs.

#include <functional>
#include <stop_token>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Hooks into a sampling run. By default they do nothing.
struct RunHooks {
  /// A function that changes the latents between steps.
  using Revise = std::function<at::Tensor(const Step&, const at::Tensor& latents)>;

  /// Called after each step with the latents it produced, at noise level `step.sigma_next`. The run continues from the
  /// returned latents, which must have the same shape, dtype and device. This is how LocalBlend and inpainting keep
  /// part of the picture unchanged with any sampler.
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

  /// Ends a step: applies `revise`, shows the result to `on_step` and returns it. Throws `Error` if `revise` returns
  /// another shape, dtype or device.
  [[nodiscard]] at::Tensor finish(const Step& step, at::Tensor latents) const {
    if (revise) {
      at::Tensor revised = revise(step, latents);
      require(
          revised.defined() && revised.sizes() == latents.sizes() && revised.scalar_type() == latents.scalar_type(),
          "revise: expected latents {} {}, found {}", c10::toString(latents.scalar_type()), shape_text(latents.sizes()),
          revised.defined() ? fmt::format("{} {}", c10::toString(revised.scalar_type()), shape_text(revised.sizes()))
                            : "no tensor");
      require(revised.device() == latents.device(), "revise: expected latents on {}, found them on {}",
              latents.device().str(), revised.device().str());
      latents = std::move(revised);
    }
    if (on_step) on_step(step, latents);
    return latents;
  }
};

/// Applies `first`, then `second`; either may be empty.
inline RunHooks::Revise revise_in_turn(RunHooks::Revise first, RunHooks::Revise second) {
  if (!first) return second;
  if (!second) return first;
  return [first = std::move(first), second = std::move(second)](const Step& step, const at::Tensor& latents) {
    return second(step, first(step, latents));
  };
}

}  // namespace ip2p
