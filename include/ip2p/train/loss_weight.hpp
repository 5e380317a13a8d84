#pragma once

/// \file
/// How much each noise level contributes to the loss.

#include <algorithm>
#include <concepts>

#include "ip2p/core/error.hpp"
#include "ip2p/sampling/denoiser.hpp"

namespace ip2p {

/// Weight of a sample's squared prediction error.
///
/// `snr` is 1 / sigma^2 = alpha_bar / (1 - alpha_bar). An error of the prediction is `prediction.c_out` times as large
/// in the clean latents, so a weight of c_out^2 measures errors of the clean latents, and c_out^2 snr errors of the
/// noise.
///
/// Laws (`ip2p::testing::check_loss_weight`): pure; finite and >= 0 for every snr > 0.
///
/// Skeleton:
/// \code
/// struct MyWeight {
///   double operator()(double snr, const ip2p::Preconditioning& prediction) const;
/// };
/// static_assert(ip2p::LossWeightPolicy<MyWeight>);
/// \endcode
template <class Weight>
concept LossWeightPolicy = std::copy_constructible<Weight> &&
    requires(const Weight& weight, double snr, const Preconditioning& prediction) {
  { weight(snr, prediction) } -> std::convertible_to<double>;
};

/// Stops compilation with one sentence unless `Weight` is a `LossWeightPolicy`.
template <class Weight>
consteval void require_loss_weight_policy() {
  static_assert(
      LossWeightPolicy<Weight>,
      "ip2p: LossWeightPolicy needs `double operator()(double snr, const Preconditioning& prediction) const`; "
      "see docs/reference/concepts.md#lossweightpolicy");
}

/// Weight 1 everywhere: the simple loss of Ho et al. 2020, which InstructPix2Pix uses, and with `EdmPrediction` that of
/// Karras et al. 2022.
struct UniformWeight {
  /// 1 for every sample.
  constexpr double operator()(double, const Preconditioning&) const { return 1.0; }
};
static_assert(LossWeightPolicy<UniformWeight>);

/// min(snr, gamma) in terms of the predicted picture (Hang et al. 2023, section 3.4), so that nearly clean samples do
/// not dominate. Divided by snr for noise and by snr + 1 for velocities, as in diffusers' training scripts.
struct MinSnrWeight {
  double gamma = 5.0;  ///< > 0; the paper's value.

  /// \throws Error unless gamma is positive
  double operator()(double snr, const Preconditioning& prediction) const {
    require(gamma > 0, "min-SNR: expected gamma > 0, found {}", gamma);
    return std::min(snr, gamma) * prediction.c_out * prediction.c_out;
  }
};
static_assert(LossWeightPolicy<MinSnrWeight>);

}  // namespace ip2p
