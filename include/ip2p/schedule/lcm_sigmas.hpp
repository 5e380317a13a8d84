#pragma once

/// \file
/// The schedule of latent consistency models.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// n of the timesteps at which a network was distilled, evenly spaced from the noisiest down, then 0 (Luo et al.,
/// "Latent consistency models", 2023).
///
/// Reference: diffusers `LCMScheduler`, including its initial scale of sqrt(sigma^2 + 1) for unit-variance noise.
struct LcmSigmas {
  /// Its name for `AnySchedule`.
  static constexpr std::string_view name = "lcm";

  DiscreteSchedule training{TrainingNoise{.single_precision = true}};  ///< Noise levels that the model was trained on.
  std::int64_t original_steps = 50;  ///< Number of distilled timesteps: N / original_steps apart, the last N - 1.

  /// The schedule as diffusers would run it, hence with training noise computed in single precision.
  static LcmSigmas from_config(const SchedulerConfig& config) {
    TrainingNoise noise = config.noise;
    noise.single_precision = true;
    return {.training = DiscreteSchedule(noise)};
  }

  /// n + 1 noise levels. Throws `Error` for n < 1 or n > original_steps.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    detail::require_steps(n);
    const std::int64_t trained = training.timesteps();
    require(original_steps >= 1 && original_steps <= trained,
            "LcmSigmas: expected original_steps from 1 to the model's {} training timesteps, found {}", trained,
            original_steps);
    require(n <= original_steps, "steps: expected at most the {} of the distillation, found {}", original_steps, n);
    std::vector<double> levels;
    levels.reserve(static_cast<std::size_t>(n) + 1);
    const double stride = static_cast<double>(original_steps) / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) {
      const auto skipped = static_cast<std::int64_t>(static_cast<double>(i) * stride);
      const std::int64_t t = (original_steps - skipped) * (trained / original_steps) - 1;
      levels.push_back(training.training_sigmas()[static_cast<std::size_t>(t)]);
    }
    levels.push_back(0.0);
    return levels;
  }

  /// Fractional timestep of a noise level, linear in log sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const { return training.sigma_to_t(sigma); }

  /// The scale of the initial unit-variance noise, sqrt(sigmas[0]^2 + 1).
  [[nodiscard]] double initial_sigma(const std::vector<double>& sigmas) const {
    require(!sigmas.empty(), "sigmas: expected at least one value, found none");
    return std::sqrt(sigmas.front() * sigmas.front() + 1.0);
  }
};

static_assert(SchedulePolicy<LcmSigmas>);

}  // namespace ip2p
