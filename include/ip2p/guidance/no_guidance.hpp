#pragma once

/// \file
/// No guidance.

#include <array>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// Uses the fully conditioned prediction unchanged; evaluates one branch.
struct NoGuidance {
  /// The fully conditioned branch alone.
  static constexpr std::array<Branch, 1> branches{Branch{.text = true, .image = true}};

  /// Returns `stacked` [B,C,h,w].
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& /*step*/) const { return stacked; }

  /// Of the one branch: 1.
  [[nodiscard]] std::array<double, 1> weights(const Step& /*step*/) const { return {1.0}; }
};

static_assert(LinearGuidancePolicy<NoGuidance>);

}  // namespace ip2p
