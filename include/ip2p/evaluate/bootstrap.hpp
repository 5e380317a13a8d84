#pragma once

/// \file
/// Confidence intervals of means by the percentile bootstrap (Efron 1979).

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include <fmt/format.h>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"

namespace ip2p {

/// Settings of `bootstrap_mean`.
struct BootstrapOptions {
  double confidence = 0.95;       ///< Share of the resampled means that the interval holds, in (0, 1).
  std::int64_t resamples = 9999;  ///< How many samples are drawn with replacement, >= 1.
  std::uint64_t seed = 0;         ///< Of the resampling.
  std::stop_token stop{};         ///< Ends it with `Cancelled`.
};

/// A mean with its confidence interval.
struct ConfidenceInterval {
  double mean = 0.0, low = 0.0, high = 0.0;  ///< The mean, and the ends of the interval.
};

/// The `share` quantile of `values`, linearly interpolated. \param values sorted, not empty  \param share in [0, 1]
inline double quantile(std::span<const double> values, double share) {
  require(!values.empty() && share >= 0.0 && share <= 1.0,
          "quantile: expected values and a share of 0 to 1, found {} values and {}", values.size(), share);
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (place - static_cast<double>(below));
}

/// Mean of `values` with the percentile interval of resampled means; depends only on the values, their order and the
/// seed. To compare two methods on the same pictures, pass their differences.
/// \throws Error for no values, a confidence outside (0, 1), or no resamples; Cancelled when stopped
inline ConfidenceInterval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options = {}) {
  require(!values.empty(), "bootstrap: expected at least one value, found none");
  require(options.confidence > 0.0 && options.confidence < 1.0,
          "bootstrap: expected a confidence between 0 and 1, found {}", options.confidence);
  require(options.resamples >= 1, "bootstrap: expected at least one resample, found {}", options.resamples);
  const auto count = static_cast<std::int64_t>(values.size());
  std::vector<double> means;
  means.reserve(static_cast<std::size_t>(options.resamples));
  for (std::int64_t resample = 0; resample < options.resamples; ++resample) {
    if (options.stop.stop_requested()) {
      throw Cancelled(fmt::format("cancelled before resample {} of {}", resample + 1, options.resamples));
    }
    SampleRandom random(options.seed, static_cast<std::uint64_t>(resample), 0);
    double sum = 0.0;
    for (std::int64_t i = 0; i < count; ++i) sum += values[static_cast<std::size_t>(random.below(count))];
    means.push_back(sum / static_cast<double>(count));
  }
  std::sort(means.begin(), means.end());
  double sum = 0.0;
  for (const double value : values) sum += value;
  const double tail = (1.0 - options.confidence) / 2;
  return {sum / static_cast<double>(count), quantile(means, tail), quantile(means, 1.0 - tail)};
}

}  // namespace ip2p
