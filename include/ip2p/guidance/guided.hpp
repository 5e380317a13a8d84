#pragma once

/// \file
/// Applies a guidance to a network that predicts several branches.

#include <ATen/ops/cat.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// Computes one guided prediction per step, evaluating as few branches as the guidance allows. Make one object per run:
/// it holds the guidance's state (`StatefulGuidancePolicy`).
///
/// `Network` is a callable that is told which branches to predict and returns them branch-major:
///
///     at::Tensor network(const at::Tensor& x, double t, const Step& step, std::span<const Branch> branches);
///                       // x [B,C,h,w], already scaled; fractional timestep t -> [branches.size() * B,C,h,w]
///     at::Tensor network(const at::Tensor& x, const Step& step, std::span<const Branch> branches);   // a denoiser's
///     form
///
/// With the first form, `Guided` is itself a network for `NetworkDenoiser` and combines raw predictions, as diffusers
/// does. With the second, it is a `Denoiser` over e.g. a branch-wise `NetworkDenoiser` and combines estimates of x0, as
/// the released code does. If the weights sum to 1, both agree up to rounding. A guidance with `over_estimates` only
/// works with the second form. `guided_denoiser` picks the right one.
///
/// Branches with weight 0 (`LinearGuidancePolicy`) and branches that are not needed (`SelectiveGuidancePolicy`) are
/// skipped. If none can be skipped, the policy's `combine` does the arithmetic in the published order. The arithmetic
/// uses the dtype of x, whatever the dtype of the predictions. Wrap a network that is expensive to copy in `std::ref`.
template <class Network, class Guidance>
class Guided {
  static_assert((require_guidance_policy<Guidance>(), true));

 public:
  /// Begins a run: where the guidance has a state, it starts here.
  Guided(Network network, Guidance guidance)
      : network_(std::move(network)), guidance_(std::move(guidance)), run_(detail::started(guidance_)) {}

  /// x [B,C,h,w], scaled; timestep t -> combined prediction [B,C,h,w]. Throws `Error` unless the network returns one
  /// batch of rows per branch, and if a guidance with state is given an earlier step than before.
  at::Tensor operator()(const at::Tensor& x, double t, const Step& step) requires(!detail::SeesLatents<Guidance>) {
    return (*this)(x, t, step, x);
  }

  /// The same for a guidance that also takes the noisy latents: `latents` [B,C,h,w], unscaled.
  at::Tensor operator()(const at::Tensor& x, double t, const Step& step, const at::Tensor& latents) {
    static_assert(!over_estimates<Guidance>(),
                  "ip2p: a guidance with `over_estimates` combines what a denoiser of several branches answers; "
                  "guided_denoiser() makes it; see docs/reference/concepts.md#guidancepolicy");
    return evaluate(latents, step, [&](std::span<const Branch> branches) { return network_(x, t, step, branches); });
  }

  /// x [B,C,h,w] at noise level step.sigma -> combined estimate [B,C,h,w]. Throws as above.
  at::Tensor operator()(const at::Tensor& x, const Step& step) requires
      std::is_invocable_v<Network&, const at::Tensor&, const Step&, std::span<const Branch>> {
    return evaluate(x, step, [&](std::span<const Branch> branches) { return network_(x, step, branches); });
  }

  /// Total number of branches evaluated so far; a whole batch counts once.
  [[nodiscard]] std::int64_t evaluated_branches() const { return evaluated_branches_; }

  /// The guidance that combines the branches.
  [[nodiscard]] const Guidance& guidance() const { return guidance_; }

 private:
  static constexpr std::size_t count = Guidance::branches.size();

  template <class Evaluate>
  at::Tensor evaluate(const at::Tensor& x, const Step& step, Evaluate predict) {
    if constexpr (StatefulGuidancePolicy<Guidance>) {
      require(step.index >= last_,
              "guidance: expected the steps of one run in order, found step {} after step {}: "
              "its state belongs to one run, make a denoiser for each",
              step.index, last_);
      last_ = step.index;
    }
    const std::array<bool, count> needed = detail::needed_branches(guidance_, step);
    std::array<Branch, count> active{};
    std::size_t n = 0;
    for (std::size_t k = 0; k < count; ++k) {
      if (needed[k]) active[n++] = Guidance::branches[k];
    }
    require(n > 0, "guidance: expected a branch of non-zero weight, found none");
    const at::Tensor stacked = checked(predict(std::span<const Branch>(active.data(), n)), x, n);
    if (n == count) return detail::combined(guidance_, stacked, step, x, run_);

    const std::int64_t batch = x.size(0);
    std::int64_t row = 0;
    if constexpr (LinearGuidancePolicy<Guidance>) {
      const std::array<double, count> weights = guidance_.weights(step);
      at::Tensor sum;
      for (std::size_t k = 0; k < count; ++k) {
        if (!needed[k]) continue;
        const at::Tensor part = stacked.narrow(0, row, batch);
        row += batch;
        if (sum.defined()) {
          sum = sum.add(part, weights[k]);
        } else {
          sum = weights[k] == 1.0 ? part : part.mul(weights[k]);
        }
      }
      return sum;
    } else {
      std::vector<at::Tensor> parts;
      for (std::size_t k = 0; k < count; ++k) {
        parts.push_back(stacked.narrow(0, needed[k] ? row : 0, batch));
        if (needed[k]) row += batch;
      }
      return detail::combined(guidance_, at::cat(parts), step, x, run_);
    }
  }

  at::Tensor checked(const at::Tensor& stacked, const at::Tensor& x, std::size_t n) {
    const std::int64_t rows = static_cast<std::int64_t>(n) * x.size(0);
    require(stacked.defined() && stacked.dim() >= 1 && stacked.size(0) == rows,
            "network: expected {} predictions ({} branches of {} samples), found {}", rows, n, x.size(0),
            stacked.defined() ? shape_text(stacked.sizes()) : "no tensor");
    evaluated_branches_ += static_cast<std::int64_t>(n);
    // Guidance multiplies differences of nearly equal predictions by large scales, which loses too much in 16 bits.
    return stacked.to(x.scalar_type());
  }

  Network network_;
  Guidance guidance_;
  detail::StateOf<Guidance> run_;
  std::int64_t last_ = 0;
  std::int64_t evaluated_branches_ = 0;
};

/// Makes a `Guided` from a network or, with `std::ref`, a reference to one.
template <class Network, class Guidance>
Guided<Network, Guidance> guided(Network network, Guidance guidance) {
  require_guidance_policy<Guidance>();
  return {std::move(network), std::move(guidance)};
}

}  // namespace ip2p
