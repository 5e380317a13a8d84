#pragma once

/// \file
/// The network's input for a noisy sample and the target of its prediction, for any prediction type.

#include <cmath>
#include <optional>
#include <type_traits>

#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/scheduler_config.hpp"
#include "ip2p/train/training_levels.hpp"

namespace ip2p::detail {

/// Coefficients of clean latents x0 and unit noise n.
struct Mixture {
  double clean;
  double noise;
};

/// The network's input and the target of its prediction.
struct TrainingTarget {
  Mixture input;
  Mixture wanted;
};

/// Predictions whose formulas the papers write in alpha_bar.
template <class Prediction>
std::optional<PredictionType> published_type(const Prediction& prediction) {
  if constexpr (std::is_same_v<Prediction, EpsPrediction>) return PredictionType::epsilon;
  if constexpr (std::is_same_v<Prediction, VPrediction>) return PredictionType::v_prediction;
  if constexpr (std::is_same_v<Prediction, SamplePrediction>) return PredictionType::sample;
  if constexpr (std::is_same_v<Prediction, AnyPrediction>) return prediction.type;
  return std::nullopt;
}

/// With x = x0 + sigma n and x0 = c_skip x + c_out F(c_in x): the input is c_in x, and the target of F is (x0 - c_skip
/// x) / c_out (Karras et al. 2022, eq. 8).
template <class Prediction>
TrainingTarget training_target(const Prediction& prediction, const TrainingLevel& level) {
  if (const auto type = published_type(prediction)) {
    // The same in alpha_bar, exact to the last bit: sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n, and n, v or x0.
    const double signal = std::sqrt(level.alpha_bar);
    const double spread = std::sqrt(1.0 - level.alpha_bar);
    const Mixture input{signal, spread};
    switch (*type) {
      case PredictionType::epsilon:
        break;
      case PredictionType::v_prediction:
        return {input, {-spread, signal}};
      case PredictionType::sample:
        return {input, {1.0, 0.0}};
    }
    return {input, {0.0, 1.0}};
  }
  const auto [c_in, c_skip, c_out] = prediction.preconditioning(level.sigma);
  return {{c_in, c_in * level.sigma}, {(1.0 - c_skip) / c_out, -c_skip * level.sigma / c_out}};
}

}  // namespace ip2p::detail
