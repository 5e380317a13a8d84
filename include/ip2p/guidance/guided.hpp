#pragma once

/// \file
/// A network that predicts branch by branch, and a guidance over it.

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// One guided prediction a step, from as few evaluated branches as the guidance allows.
///
/// `Network` is a callable over the branches it is asked for, answering them branch-major:
///
///     at::Tensor network(const at::Tensor& x, double t, const Step& at, std::span<const Branch> branches);
///                       // x [B,C,h,w], already scaled; fractional timestep t -> [branches.size() * B,C,h,w]
///     at::Tensor network(const at::Tensor& x, const Step& at, std::span<const Branch> branches);   // a denoiser's
///     form
///
/// In the first form `Guided` is a network for `NetworkDenoiser`, which then combines predictions, as diffusers does;
/// in the second it is a `Denoiser` over e.g. a branch-wise `NetworkDenoiser`, which then combines estimates of x0, as
/// the released code does. Both agree up to rounding, because guidance weights sum to 1.
///
/// Branches of weight 0 are left out where the guidance is a `LinearGuidancePolicy`; where all are needed its `combine`
/// does the arithmetic, in the published order, and in the dtype of x whatever that of the predictions. A network that
/// is expensive to copy is passed through `std::ref`.
template <class Network, class Guidance>
class Guided {
 public:
  Guided(Network network, Guidance guidance) : network_(std::move(network)), guidance_(std::move(guidance)) {
    require_guidance_policy<Guidance>();
  }

  /// x [B,C,h,w], timestep t -> combined prediction [B,C,h,w]. Throws `Error` if the network answers other rows than
  /// one batch for each branch.
  at::Tensor operator()(const at::Tensor& x, double t, const Step& at) {
    return evaluate(x, at, [&](std::span<const Branch> branches) { return network_(x, t, at, branches); });
  }

  /// x [B,C,h,w] at noise level at.sigma -> combined estimate [B,C,h,w]. Throws as above.
  at::Tensor operator()(const at::Tensor& x, const Step& at) requires
      std::is_invocable_v<Network&, const at::Tensor&, const Step&, std::span<const Branch>> {
    return evaluate(x, at, [&](std::span<const Branch> branches) { return network_(x, at, branches); });
  }

  /// Branches evaluated so far, over all steps (a batch counts once).
  [[nodiscard]] std::int64_t evaluated_branches() const { return evaluated_branches_; }

  [[nodiscard]] const Guidance& guidance() const { return guidance_; }

 private:
  static constexpr std::size_t count = Guidance::branches.size();

  template <class Evaluate>
  at::Tensor evaluate(const at::Tensor& x, const Step& at, Evaluate predict) {
    const auto all = [&] { return guidance_.combine(checked(predict(Guidance::branches), x, count), at); };
    if constexpr (LinearGuidancePolicy<Guidance>) {
      const std::array<double, count> weights = guidance_.weights(at);
      std::array<Branch, count> active{};
      std::array<double, count> active_weights{};
      std::size_t n = 0;
      for (std::size_t k = 0; k < count; ++k) {
        require(std::isfinite(weights[k]), "guidance: expected finite weights, found {} for branch {}", weights[k], k);
        if (weights[k] == 0.0) continue;
        active[n] = Guidance::branches[k];
        active_weights[n++] = weights[k];
      }
      require(n > 0, "guidance: expected weights that sum to 1, found all zero");
      if (n == count) return all();

      const at::Tensor stacked = checked(predict(std::span<const Branch>(active.data(), n)), x, n);
      const std::int64_t batch = x.size(0);
      at::Tensor sum;
      for (std::size_t k = 0; k < n; ++k) {
        const at::Tensor part = stacked.narrow(0, static_cast<std::int64_t>(k) * batch, batch);
        if (k == 0) {
          sum = active_weights[k] == 1.0 ? part : part.mul(active_weights[k]);
        } else {
          sum = sum.add(part, active_weights[k]);
        }
      }
      return sum;
    } else {
      return all();
    }
  }

  at::Tensor checked(at::Tensor stacked, const at::Tensor& x, std::size_t n) {
    const std::int64_t rows = static_cast<std::int64_t>(n) * x.size(0);
    require(stacked.defined() && stacked.dim() >= 1 && stacked.size(0) == rows,
            "network: expected {} predictions ({} branches of {} samples), found {}", rows, n, x.size(0),
            stacked.defined() ? shape_text(stacked.sizes()) : "no tensor");
    evaluated_branches_ += static_cast<std::int64_t>(n);
    // Guidance takes differences of nearly equal predictions times large scales: not in 16 bits.
    return stacked.to(x.scalar_type());
  }

  Network network_;
  Guidance guidance_;
  std::int64_t evaluated_branches_ = 0;
};

/// `Guided` over a network or, through `std::ref`, a reference to one.
template <class Network, class Guidance>
Guided<Network, Guidance> guided(Network network, Guidance guidance) {
  return {std::move(network), std::move(guidance)};
}

}  // namespace ip2p
