#pragma once

/// \file
/// The null object of the folder.

#include <array>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// The fully conditioned prediction as it is: one evaluation a step.
struct NoGuidance {
  /// The fully conditioned branch alone.
  static constexpr std::array<Branch, 1> branches{Branch{.text = true, .image = true}};

  /// `stacked` [B,C,h,w] itself.
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& /*step*/) const { return stacked; }

  /// Of the one branch: 1.
  [[nodiscard]] std::array<double, 1> weights(const Step& /*step*/) const { return {1.0}; }
};

static_assert(LinearGuidancePolicy<NoGuidance>);

}  // namespace ip2p
