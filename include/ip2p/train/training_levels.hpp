#pragma once

/// \file
/// The noise levels that a diffusion model is trained on, and how they are passed to the network.

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"

namespace ip2p {

/// The noise of one training sample: x = x0 + sigma n.
struct TrainingLevel {
  double sigma = 0.0;      ///< > 0.
  double timestep = 0.0;   ///< Passed to the network.
  double alpha_bar = 1.0;  ///< 1 / (sigma^2 + 1): the variance of the clean latents in x / sqrt(sigma^2 + 1).
};

/// Draws the noise level of a training sample.
///
/// Laws: a function of the numbers that it draws; sigma is finite and > 0; alpha_bar = 1 / (sigma^2 + 1) up to
/// rounding.
///
/// Skeleton:
/// \code
/// struct MyLevels {
///   ip2p::TrainingLevel draw(ip2p::SampleRandom& random) const;
/// };
/// static_assert(ip2p::TrainingLevelsPolicy<MyLevels>);
/// \endcode
template <class Levels>
concept TrainingLevelsPolicy = std::copy_constructible<Levels> && requires(const Levels& levels, SampleRandom& random) {
  { levels.draw(random) } -> std::convertible_to<TrainingLevel>;
};

/// Stops compilation with one sentence unless `Levels` is a `TrainingLevelsPolicy`.
template <class Levels>
consteval void require_training_levels() {
  static_assert(TrainingLevelsPolicy<Levels>,
                "ip2p: TrainingLevelsPolicy needs `TrainingLevel draw(SampleRandom& random) const`; see "
                "docs/reference/concepts.md#traininglevelspolicy");
}

/// t ~ U{0 ... N - 1} over the timesteps of a noise schedule (Ho et al. 2020, algorithm 1), as Stable Diffusion and
/// InstructPix2Pix use. Draws one number.
class UniformTimesteps {
 public:
  /// \param schedule the model's own; Stable Diffusion's by default
  explicit UniformTimesteps(DiscreteSchedule schedule = DiscreteSchedule()) : schedule_(std::move(schedule)) {}

  /// A timestep and its noise level.
  [[nodiscard]] TrainingLevel draw(SampleRandom& random) const {
    const auto t = static_cast<std::size_t>(random.below(schedule_.timesteps()));
    return {schedule_.training_sigmas()[t], static_cast<double>(t), schedule_.alphas_cumprod()[t]};
  }

  /// The timesteps that are drawn from.
  [[nodiscard]] const DiscreteSchedule& schedule() const { return schedule_; }

 private:
  DiscreteSchedule schedule_;
};
static_assert(TrainingLevelsPolicy<UniformTimesteps>);

/// ln sigma ~ N(mean, deviation^2), for networks that take c_noise = ln(sigma) / 4 (Karras et al. 2022, table 1). Use
/// with `EdmPrediction` and `EdmSigmas`. Draws two numbers.
struct LogNormalSigmas {
  double mean = -1.2;      ///< P_mean of the paper.
  double deviation = 1.2;  ///< P_std, > 0.

  /// \throws Error for parameters out of range
  [[nodiscard]] TrainingLevel draw(SampleRandom& random) const {
    require(std::isfinite(mean) && std::isfinite(deviation) && deviation > 0.0,
            "LogNormalSigmas: expected a finite mean and a deviation > 0, found {} and {}", mean, deviation);
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
    const double log_sigma = mean + deviation * radius * std::cos(2.0 * std::numbers::pi * random.uniform());
    const double sigma = std::exp(log_sigma);
    return {sigma, log_sigma / 4.0, 1.0 / (sigma * sigma + 1.0)};
  }
};
static_assert(TrainingLevelsPolicy<LogNormalSigmas>);

}  // namespace ip2p
