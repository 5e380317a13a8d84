#pragma once

/// \file
/// Guidance rescaled to the standard deviation of the conditioned prediction.

#include <ATen/ops/std.h>

#include <array>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// Lin et al. 2023, "Common diffusion noise schedules and sample steps are flawed", section 3.4: large scales increase
/// the standard deviation of the combined prediction, which overexposes pictures. The fix, per sample over all axes but
/// the batch, is
/// e = phi e_base std(e_full) / std(e_base) + (1 - phi) e_base,
/// with the unbiased standard deviation, as in diffusers' `rescale_noise_cfg`.
///
/// It acts on whatever its base combines. With `guided_denoiser` that is normally the raw prediction of noise or v, as
/// in diffusers. With a base that has `over_estimates` it is estimates of x0, whose standard deviations are related
/// differently; that is not the published method.
///
/// Not linear: the fully conditioned branch is always evaluated, along with those that the base needs. A constant
/// combined prediction is left unchanged. Throws `Error` unless 0 <= phi <= 1.
template <class Base>
struct Rescaled {
  static_assert((require_guidance_policy<Base>(), true));
  static constexpr auto branches = Base::branches;  ///< The base's.
  static constexpr bool over_estimates = ip2p::over_estimates<Base>();

  Base base;         ///< The guidance that is rescaled.
  double phi = 0.7;  ///< Share of the rescaled prediction, 0 to 1; the paper uses 0.7.

  /// `stacked` [K*B,C,h,w] in the order of the base's branches -> [B,C,h,w].
  /// \param more what the base takes in addition: the noisy latents, its state
  template <class... More>
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& step, More&&... more)
      const requires detail::Combines<Base, std::remove_reference_t<More>...> {
    require(phi >= 0.0 && phi <= 1.0, "Rescaled: phi: expected 0 ... 1, found {}", phi);
    const at::Tensor full = detail::split_branches<branches.size()>(stacked)[0];
    const at::Tensor combined = base.combine(stacked, step, more...);
    const at::Tensor own = deviation(combined);
    const at::Tensor factor = (deviation(full) / own).masked_fill(own.gt(0).logical_not(), 1.0);
    return (combined * factor * phi).add(combined, 1.0 - phi);
  }

  /// The base's state for a new run.
  [[nodiscard]] auto start() const requires StatefulGuidancePolicy<Base> { return base.start(); }

  /// The branches that the base needs, and the fully conditioned one.
  [[nodiscard]] std::array<bool, branches.size()> needs(const Step& step) const {
    auto needed = detail::needed_branches(base, step);
    needed[0] = true;
    return needed;
  }

 private:
  static at::Tensor deviation(const at::Tensor& x) {
    std::vector<std::int64_t> axes;
    for (std::int64_t axis = 1; axis < x.dim(); ++axis) axes.push_back(axis);
    return at::std(x, axes, /*unbiased=*/true, /*keepdim=*/true);
  }
};

template <class Base>
Rescaled(Base, double) -> Rescaled<Base>;

}  // namespace ip2p
