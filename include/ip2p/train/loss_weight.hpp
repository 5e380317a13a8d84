#pragma once

/// \file
/// How much each timestep counts in the loss.

#include <algorithm>
#include <concepts>

#include "ip2p/core/error.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// Something that weighs a sample's squared error.
///
/// Laws (`ip2p::testing::check_loss_weight`): pure; finite and >= 0 for every ratio of signal to noise
/// snr = alpha_bar / (1 - alpha_bar) >= 0.
///
/// Skeleton:
/// \code
/// struct MyWeight {
///   double operator()(double snr, ip2p::PredictionType prediction) const;
/// };
/// static_assert(ip2p::LossWeightPolicy<MyWeight>);
/// \endcode
template <class Weight>
concept LossWeightPolicy = requires(const Weight& weight, double snr, PredictionType prediction) {
  { weight(snr, prediction) } -> std::convertible_to<double>;
};

/// Explains in one line what a loss weight lacks.
template <class Weight>
consteval void require_loss_weight_policy() {
  static_assert(LossWeightPolicy<Weight>,
                "ip2p: LossWeightPolicy needs `double operator()(double snr, PredictionType) const`; see "
                "docs/reference/concepts.md#lossweightpolicy");
}

/// Every timestep alike: the simple loss of Ho et al. 2020, with which InstructPix2Pix is trained.
struct UniformWeight {
  constexpr double operator()(double, PredictionType) const { return 1.0; }
};
static_assert(LossWeightPolicy<UniformWeight>);

/// min(snr, gamma) in terms of the predicted picture (Hang et al. 2023, section 3.4), so that nearly clean samples do
/// not dominate: divided by snr for noise and by snr + 1 for velocities, as diffusers' training scripts have it.
struct MinSnrWeight {
  double gamma = 5.0;  ///< > 0; the paper's value.

  /// \throws Error unless gamma is positive
  double operator()(double snr, PredictionType prediction) const {
    require(gamma > 0, "min-SNR: expected gamma > 0, found {}", gamma);
    switch (prediction) {
      case PredictionType::epsilon:
        return snr <= gamma ? 1.0 : gamma / snr;
      case PredictionType::v_prediction:
        return std::min(snr, gamma) / (snr + 1.0);
      case PredictionType::sample:
        break;
    }
    return std::min(snr, gamma);
  }
};
static_assert(LossWeightPolicy<MinSnrWeight>);

}  // namespace ip2p
