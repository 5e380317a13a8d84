#pragma once

/// \file
/// A learning rate that shrinks by a constant factor with every update.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ip2p/train/learning_rate.hpp"

namespace ip2p {

/// peak * factor^step, but never less than `least`. The defaults are those of Text2LIVE.
struct ExponentialDecay {
  double peak = 2.5e-3;  ///< Rate of the first update, >= 0.
  double factor = 0.99;  ///< Factor per update, in (0, 1].
  double least = 1e-5;   ///< >= 0

  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t step) const {
    return std::max(least, peak * std::pow(factor, static_cast<double>(step)));
  }
};
static_assert(LearningRatePolicy<ExponentialDecay>);

}  // namespace ip2p
