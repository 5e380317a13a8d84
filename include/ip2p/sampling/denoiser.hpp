#pragma once

/// \file
/// Turns a network's prediction into an estimate of the clean latents.

#include <cmath>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// The factors of x0 = c_skip * x + c_out * network(c_in * x, t) at one noise level (Karras et al. 2022, eq. 7).
struct Preconditioning {
  double c_in;    ///< Scale of the network's input.
  double c_skip;  ///< Share of the noisy latents in the estimate.
  double c_out;   ///< Scale of the network's output.
};

/// What a network's output means: `Preconditioning preconditioning(double sigma) const`. The network is trained to
/// predict (x0 - c_skip x) / c_out for x = x0 + sigma * noise.
///
/// Laws (`ip2p::testing::check_prediction`), for sigma > 0: pure; finite; neither c_in nor c_out is 0; applying the
/// factors to the training target recovers x0.
template <class Policy>
concept PredictionPolicy = std::copy_constructible<Policy> && requires(const Policy& prediction, double sigma) {
  { prediction.preconditioning(sigma) } -> std::same_as<Preconditioning>;
};

/// Fails to compile, with a one-sentence message, unless `Policy` is a `PredictionPolicy`.
template <class Policy>
consteval void require_prediction_policy() {
  static_assert(PredictionPolicy<Policy>,
                "ip2p: PredictionPolicy needs `Preconditioning preconditioning(double sigma) const` and a copy "
                "constructor; see docs/reference/concepts.md#predictionpolicy");
}

/// The network predicts the noise: x0 = x - sigma * eps. Reference: k-diffusion `DiscreteEpsDDPMDenoiser`.
struct EpsPrediction {
  /// The factors at a noise level. \param sigma > 0
  [[nodiscard]] Preconditioning preconditioning(double sigma) const {
    return {.c_in = 1.0 / std::sqrt(sigma * sigma + 1.0), .c_skip = 1.0, .c_out = -sigma};
  }
};

/// The network predicts v (Salimans and Ho 2022): x0 = x / (sigma^2 + 1) - v * sigma / sqrt(sigma^2 + 1). Reference:
/// k-diffusion `DiscreteVDDPMDenoiser`.
struct VPrediction {
  /// The factors at a noise level. \param sigma > 0
  [[nodiscard]] Preconditioning preconditioning(double sigma) const {
    const double scale = 1.0 / std::sqrt(sigma * sigma + 1.0);
    return {.c_in = scale, .c_skip = scale * scale, .c_out = -sigma * scale};
  }
};

/// The network predicts x0 itself.
struct SamplePrediction {
  /// The factors at a noise level. \param sigma > 0
  [[nodiscard]] Preconditioning preconditioning(double sigma) const {
    return {.c_in = 1.0 / std::sqrt(sigma * sigma + 1.0), .c_skip = 0.0, .c_out = 1.0};
  }
};

/// The network of Karras et al. 2022, eq. 7, whose input and target have unit variance: c_skip = d^2 / (sigma^2 + d^2),
/// c_out = sigma d / sqrt(sigma^2 + d^2), c_in = 1 / sqrt(sigma^2 + d^2) with d = `sigma_data`. Use it with
/// `EdmSigmas`, which supplies c_noise.
struct EdmPrediction {
  double sigma_data = 0.5;  ///< Standard deviation of the training data, > 0.

  /// The factors at a noise level. \param sigma > 0  \throws Error unless sigma_data > 0
  [[nodiscard]] Preconditioning preconditioning(double sigma) const {
    require(std::isfinite(sigma_data) && sigma_data > 0.0, "EdmPrediction: expected sigma_data > 0, found {}",
            sigma_data);
    const double variance = sigma * sigma + sigma_data * sigma_data;
    const double scale = 1.0 / std::sqrt(variance);
    return {.c_in = scale, .c_skip = sigma_data * sigma_data / variance, .c_out = sigma * sigma_data * scale};
  }
};

/// A prediction type chosen at run time, as read from the model's configuration.
struct AnyPrediction {
  PredictionType type = PredictionType::epsilon;  ///< What the network predicts.

  /// The factors at a noise level. \param sigma > 0
  [[nodiscard]] Preconditioning preconditioning(double sigma) const {
    switch (type) {
      case PredictionType::v_prediction:
        return VPrediction{}.preconditioning(sigma);
      case PredictionType::sample:
        return SamplePrediction{}.preconditioning(sigma);
      case PredictionType::epsilon:
        break;
    }
    return EpsPrediction{}.preconditioning(sigma);
  }
};

static_assert(PredictionPolicy<EpsPrediction> && PredictionPolicy<VPrediction> && PredictionPolicy<SamplePrediction> &&
              PredictionPolicy<EdmPrediction> && PredictionPolicy<AnyPrediction>);

/// Makes a `Denoiser` from a network.
///
/// `Network` is callable in one of three forms. x is already multiplied by c_in, t is the (fractional) timestep from
/// `sigma_to_t`, and `latents` is the sampler's unscaled x:
///
///     at::Tensor network(const at::Tensor& x, double t, const Step& step);   // x [B,C,h,w] -> prediction [B,C,h,w]
///     at::Tensor network(const at::Tensor& x, double t);
///     at::Tensor network(const at::Tensor& x, double t, const Step& step, const at::Tensor& latents);
///
/// The prediction may have a narrower dtype; the estimate is computed and returned in the dtype of x. Extra arguments
/// of the call are forwarded to the network, which may then predict K * B rows and get K * B estimates (branch-major).
/// This turns a network that evaluates several guidance branches into a denoiser that does.
template <class Network, class Schedule, class Prediction = EpsPrediction>
class NetworkDenoiser {
  static_assert((require_schedule_policy<Schedule>(), require_prediction_policy<Prediction>(), true));

 public:
  /// Takes the network by value; one that is expensive to copy is passed through `std::ref`.
  NetworkDenoiser(Network network, Schedule schedule, Prediction prediction = {})
      : network_(std::move(network)), schedule_(std::move(schedule)), prediction_(std::move(prediction)) {}

  /// x [B,C,h,w] at noise level step.sigma -> estimate of x0, same shape and dtype (K * B rows, see above). Throws
  /// `Error` if the network answers another shape.
  template <class... Extra>
  at::Tensor operator()(const at::Tensor& x, const Step& step, Extra&&... extra) {
    const auto [c_in, c_skip, c_out] = prediction_.preconditioning(step.sigma);
    at::Tensor output = predict(x, c_in, schedule_.sigma_to_t(step.sigma), step, std::forward<Extra>(extra)...);
    const std::int64_t copies = copies_of(x, output, sizeof...(Extra) > 0);
    output = output.to(x.scalar_type());
    if (c_skip == 0.0) return output.mul(c_out);
    at::Tensor kept = c_skip == 1.0 ? x : x.mul(c_skip);
    if (copies > 1) {
      std::vector<std::int64_t> repeats(static_cast<std::size_t>(x.dim()), 1);
      repeats.front() = copies;
      kept = kept.repeat(repeats);
    }
    return kept.add(output, c_out);
  }

  /// The network that is asked.
  [[nodiscard]] const Network& network() const { return network_; }
  /// The network that is asked.
  [[nodiscard]] Network& network() { return network_; }
  /// What says the timestep of a noise level.
  [[nodiscard]] const Schedule& schedule() const { return schedule_; }

 private:
  template <class... Extra>
  at::Tensor predict(const at::Tensor& latents, double c_in, double t, const Step& step, Extra&&... extra) {
    const at::Tensor x = latents.mul(c_in);
    if constexpr (std::is_invocable_v<Network&, const at::Tensor&, double, const Step&, const at::Tensor&> &&
                  sizeof...(Extra) == 0) {
      return network_(x, t, step, latents);
    } else if constexpr (std::is_invocable_v<Network&, const at::Tensor&, double, const Step&, Extra...>) {
      return network_(x, t, step, std::forward<Extra>(extra)...);
    } else {
      static_assert(std::is_invocable_v<Network&, const at::Tensor&, double, Extra...>,
                    "ip2p: NetworkDenoiser needs a network `Tensor(const Tensor& x, double t, const Step& step)` or "
                    "`Tensor(const Tensor& x, double t)`; see docs/reference/concepts.md#denoiser");
      return network_(x, t, std::forward<Extra>(extra)...);
    }
  }

  /// The number of branches K in the prediction, which must be 1 unless the call is branch-wise.
  static std::int64_t copies_of(const at::Tensor& x, const at::Tensor& output, bool branchwise) {
    bool fits = output.defined() && output.dim() == x.dim() && x.dim() > 0 && x.size(0) > 0 &&
                output.size(0) % x.size(0) == 0 && output.sizes().slice(1) == x.sizes().slice(1);
    const std::int64_t copies = fits ? output.size(0) / x.size(0) : 0;
    fits = fits && (branchwise ? copies >= 1 : copies == 1);
    require(fits, "network: expected a prediction of the shape {}, found {}", shape_text(x.sizes()),
            output.defined() ? shape_text(output.sizes()) : "no tensor");
    return copies;
  }

  Network network_;
  Schedule schedule_;
  Prediction prediction_;
};

}  // namespace ip2p
