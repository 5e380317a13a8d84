#pragma once

/// \file
/// A sampler whose estimates of the result are shown while it runs.

#include <functional>
#include <span>
#include <utility>

#include "ip2p/core/progress.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/sampling/concepts.hpp"

namespace ip2p {

/// Any sampler, bit for bit, that also shows what its denoiser thinks of the result: hooks see latents that are still
/// noisy. For previews; see `LinearPreview`.
template <class Base>
struct ShowEstimates {
  Base base;  ///< The sampler.
  /// Called at the end of each step, before the hooks' `on_step`, with the last estimate of x0 in it, [B,C,h,w].
  std::function<void(const Step&, const at::Tensor& x0)> show = {};

  /// As `base`. \throws Error, Cancelled as `base`
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    at::Tensor last;
    const auto remember = [&](const at::Tensor& latents, const Step& step) -> at::Tensor {
      last = denoiser(latents, step);
      return last;
    };
    auto watched = hooks;
    watched.on_step = [&](const Step& step, const at::Tensor& latents) {
      if (show) show(step, last);
      if (hooks.on_step) hooks.on_step(step, latents);
    };
    return base.sample(remember, std::move(x), sigmas, rng, watched);
  }
};

}  // namespace ip2p
