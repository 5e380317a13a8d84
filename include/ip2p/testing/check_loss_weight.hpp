#pragma once

/// \file
/// The laws of `LossWeightPolicy`.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/testing/law.hpp"
#include "ip2p/train/loss_weight.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `LossWeightPolicy` that `weight` breaks, for all prediction types and
/// signal-to-noise ratios from 10^-10 to 10^10.
template <class Weight>
void check_loss_weight(const Weight& weight) {
  require_loss_weight_policy<Weight>();
  constexpr auto role = "LossWeightPolicy";
  std::vector<double> ratios;
  for (int i = -100; i <= 100; ++i) ratios.push_back(std::pow(10.0, 0.1 * i));
  for (const auto type : {PredictionType::epsilon, PredictionType::v_prediction, PredictionType::sample}) {
    const AnyPrediction prediction{type};
    std::vector<double> values;
    double largest = 0.0;
    for (const double snr : ratios) {
      const double value = weight(snr, prediction.preconditioning(1.0 / std::sqrt(snr)));
      expect_law(std::isfinite(value), role, "weights are finite", "{} for snr {}", value, snr);
      expect_law(value >= 0.0, role, "weights are not negative", "{} for snr {}", value, snr);
      largest = std::max(largest, value);
      values.push_back(value);
    }
    expect_law(largest > 0.0, role, "some samples count", "all weights are 0");
    const Weight copy(weight);
    for (std::size_t i = ratios.size(); i-- > 0;) {
      const double again = copy(ratios[i], prediction.preconditioning(1.0 / std::sqrt(ratios[i])));
      expect_law(again == values[i], role, "a weight is a function of snr and prediction", "{} and then {} for snr {}",
                 values[i], again, ratios[i]);
    }
  }
}

}  // namespace ip2p::testing
