#pragma once

/// \file
/// Learning rate as a function of the number of updates made so far.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <numbers>
#include <string_view>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// Returns the learning rate of update `step` (0-based).
///
/// Laws (`ip2p::testing::check_learning_rate`): pure; finite and not negative for every step >= 0.
///
/// Skeleton:
/// \code
/// struct MyRate {
///   double operator()(std::int64_t step) const;
/// };
/// static_assert(ip2p::LearningRatePolicy<MyRate>);
/// \endcode
template <class Rate>
concept LearningRatePolicy = requires(const Rate& rate, std::int64_t step) {
  { rate(step) } -> std::convertible_to<double>;
};

/// Stops compilation with one sentence unless `Rate` is a `LearningRatePolicy`.
template <class Rate>
consteval void require_learning_rate_policy() {
  static_assert(LearningRatePolicy<Rate>,
                "ip2p: LearningRatePolicy needs `double operator()(std::int64_t step) const`; see "
                "docs/reference/concepts.md#learningratepolicy");
}

/// The rate of update `step`, checked before use.
/// \throws Error unless it is finite and not negative
template <LearningRatePolicy Rate>
[[nodiscard]] double rate_checked(const Rate& rate, std::int64_t step) {
  const double value = rate(step);
  require(std::isfinite(value) && value >= 0.0, "learning rate: expected a finite rate >= 0 for update {}, found {}",
          step, value);
  return value;
}

/// Settings that all learning rates share, for choosing one at run time; see `AnyLearningRate`.
struct LearningRateSettings {
  double peak = 1e-4;           ///< Largest rate, >= 0.
  std::int64_t warmup = 0;      ///< Updates of the linear rise, >= 0.
  std::int64_t steps = 10'000;  ///< Updates in all.
};

namespace detail {

/// Fraction of the warm-up completed at update `step`: 0 at the first, 1 after `warmup`.
inline double warmup_share(std::int64_t step, std::int64_t warmup) {
  return step < warmup ? static_cast<double>(step) / static_cast<double>(warmup) : 1.0;
}

/// Fraction of the updates between `warmup` and `steps` completed; may exceed 1.
inline double progress_after(std::int64_t step, std::int64_t warmup, std::int64_t steps) {
  return static_cast<double>(step - warmup) / static_cast<double>(std::max<std::int64_t>(1, steps - warmup));
}

}  // namespace detail

/// A constant rate, as InstructPix2Pix uses (1e-4, no warm-up).
struct ConstantRate {
  /// Its name for `AnyLearningRate`.
  static constexpr std::string_view name = "constant";
  double rate = 1e-4;  ///< >= 0

  /// Made from the settings that it uses.
  static ConstantRate from_settings(const LearningRateSettings& settings) { return {settings.peak}; }
  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t) const { return rate; }
};
static_assert(LearningRatePolicy<ConstantRate>);

/// Rises linearly from 0 to `peak` and stays there: `get_constant_schedule_with_warmup` of transformers and diffusers.
/// The next four match functions of the same libraries.
struct WarmupConstant {
  /// Its name for `AnyLearningRate`.
  static constexpr std::string_view name = "constant-with-warmup";
  double peak = 1e-4;         ///< >= 0
  std::int64_t warmup = 500;  ///< Updates of the rise, >= 0; the first has rate 0.

  /// Made from the settings that it uses.
  static WarmupConstant from_settings(const LearningRateSettings& settings) { return {settings.peak, settings.warmup}; }
  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t step) const { return peak * detail::warmup_share(step, warmup); }
};
static_assert(LearningRatePolicy<WarmupConstant>);

/// Rises linearly from 0 to `peak`, then falls linearly to 0: `get_linear_schedule_with_warmup`.
struct LinearDecay {
  /// Its name for `AnyLearningRate`.
  static constexpr std::string_view name = "linear";
  double peak = 1e-4;           ///< >= 0
  std::int64_t warmup = 500;    ///< Updates of the rise, >= 0.
  std::int64_t steps = 10'000;  ///< Updates in all; 0 afterwards.

  /// Made from the settings that it uses.
  static LinearDecay from_settings(const LearningRateSettings& settings) {
    return {settings.peak, settings.warmup, settings.steps};
  }
  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t step) const {
    if (step < warmup) return peak * detail::warmup_share(step, warmup);
    const auto span = static_cast<double>(std::max<std::int64_t>(1, steps - warmup));
    return peak * std::max(0.0, static_cast<double>(steps - step) / span);
  }
};
static_assert(LearningRatePolicy<LinearDecay>);

/// Rises linearly from 0 to `peak`, then follows (1 + cos) / 2: `get_cosine_schedule_with_warmup`.
struct CosineDecay {
  /// Its name for `AnyLearningRate`.
  static constexpr std::string_view name = "cosine";
  double peak = 1e-4;           ///< >= 0
  std::int64_t warmup = 500;    ///< Updates of the rise, >= 0.
  std::int64_t steps = 10'000;  ///< Updates in all; the cosine continues afterwards.
  double cycles = 0.5;          ///< Periods of the cosine after the warm-up; 0.5 ends at 0.

  /// Made from the settings that it uses.
  static CosineDecay from_settings(const LearningRateSettings& settings) {
    return {settings.peak, settings.warmup, settings.steps};
  }
  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t step) const {
    if (step < warmup) return peak * detail::warmup_share(step, warmup);
    const double angle = 2.0 * std::numbers::pi * cycles * detail::progress_after(step, warmup, steps);
    return peak * std::max(0.0, 0.5 * (1.0 + std::cos(angle)));
  }
};
static_assert(LearningRatePolicy<CosineDecay>);

/// Rises linearly from 0 to `peak`, then decays along half a cosine several times, each time from `peak`:
/// `get_cosine_with_hard_restarts_schedule_with_warmup`.
struct CosineRestarts {
  /// Its name for `AnyLearningRate`.
  static constexpr std::string_view name = "cosine-with-restarts";
  double peak = 1e-4;           ///< >= 0
  std::int64_t warmup = 500;    ///< Updates of the rise, >= 0.
  std::int64_t steps = 10'000;  ///< Updates in all; 0 afterwards.
  std::int64_t cycles = 1;      ///< Number of decays, >= 1.

  /// Made from the settings that it uses.
  static CosineRestarts from_settings(const LearningRateSettings& settings) {
    return {settings.peak, settings.warmup, settings.steps};
  }
  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t step) const {
    if (step < warmup) return peak * detail::warmup_share(step, warmup);
    const double progress = detail::progress_after(step, warmup, steps);
    if (progress >= 1.0) return 0.0;
    const double angle = std::numbers::pi * std::fmod(static_cast<double>(cycles) * progress, 1.0);
    return peak * std::max(0.0, 0.5 * (1.0 + std::cos(angle)));
  }
};
static_assert(LearningRatePolicy<CosineRestarts>);

/// Rises linearly from 0 to `peak`, then falls to `final_rate` with a power of the remaining fraction:
/// `get_polynomial_decay_schedule_with_warmup`.
struct PolynomialDecay {
  /// Its name for `AnyLearningRate`.
  static constexpr std::string_view name = "polynomial";
  double peak = 1e-4;           ///< > final_rate
  std::int64_t warmup = 500;    ///< Updates of the rise, >= 0.
  std::int64_t steps = 10'000;  ///< Updates in all; `final_rate` afterwards.
  double final_rate = 1e-7;     ///< >= 0
  double power = 1.0;           ///< > 0

  /// Made from the settings that it uses.
  static PolynomialDecay from_settings(const LearningRateSettings& settings) {
    return {settings.peak, settings.warmup, settings.steps};
  }
  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t step) const {
    if (step < warmup) return peak * detail::warmup_share(step, warmup);
    if (step > steps) return final_rate;
    const double left = 1.0 - detail::progress_after(step, warmup, steps);
    return (peak - final_rate) * std::pow(left, power) + final_rate;
  }
};
static_assert(LearningRatePolicy<PolynomialDecay>);

/// Rises linearly to `peak`, starting above 0 at the first update, then falls along half a cosine to `final_share *
/// peak` (Loshchilov and Hutter 2017, one period) and stays there after `steps`.
struct WarmupCosine {
  /// Its name for `AnyLearningRate`.
  static constexpr std::string_view name = "warmup-cosine";
  double peak = 1e-3;           ///< > 0
  std::int64_t warmup = 100;    ///< Updates of the linear rise, >= 0.
  std::int64_t steps = 10'000;  ///< Updates in all, > warmup.
  double final_share = 0.05;    ///< Rate at the end, as a share of `peak`, in (0, 1].

  /// Made from the settings that it uses.
  static WarmupCosine from_settings(const LearningRateSettings& settings) {
    return {settings.peak, settings.warmup, settings.steps};
  }
  /// Rate of update `step`, counted from 0.
  double operator()(std::int64_t step) const {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    const double fall =
        0.5 * (1.0 + std::cos(std::numbers::pi * std::min(1.0, detail::progress_after(step, warmup, steps))));
    return peak * (final_share + (1.0 - final_share) * fall);
  }
};
static_assert(LearningRatePolicy<WarmupCosine>);

}  // namespace ip2p
