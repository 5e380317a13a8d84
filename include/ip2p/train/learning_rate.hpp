#pragma once

/// \file
/// Learning rate as a function of the number of updates made so far.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <numbers>

namespace ip2p {

/// Something that gives the learning rate of update `step` (0-based).
///
/// Laws: pure; positive and finite for every step >= 0.
template <class Rate>
concept LearningRatePolicy = requires(const Rate& rate, std::int64_t step) {
  { rate(step) } -> std::convertible_to<double>;
};

/// The same rate always: what InstructPix2Pix trains with (1e-4, no warm-up).
struct ConstantRate {
  double rate = 1e-4;  ///< > 0

  double operator()(std::int64_t) const { return rate; }
};
static_assert(LearningRatePolicy<ConstantRate>);

/// Rises linearly to `peak`, then falls along half a cosine to `final_share * peak` (Loshchilov and Hutter 2017, one
/// period); stays there after `steps`.
struct WarmupCosine {
  double peak = 1e-3;           ///< > 0
  std::int64_t warmup = 100;    ///< Updates of the linear rise, >= 0.
  std::int64_t steps = 10'000;  ///< Updates in all, > warmup.
  double final_share = 0.05;    ///< Rate at the end, as a share of `peak`, in (0, 1].

  double operator()(std::int64_t step) const {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    const double progress = std::min(
        1.0, static_cast<double>(step - warmup) / static_cast<double>(std::max<std::int64_t>(1, steps - warmup)));
    const double fall = 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
    return peak * (final_share + (1.0 - final_share) * fall);
  }
};
static_assert(LearningRatePolicy<WarmupCosine>);

}  // namespace ip2p
