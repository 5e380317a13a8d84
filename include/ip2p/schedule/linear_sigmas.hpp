#pragma once

/// \file
/// The schedule of diffusers' Euler schedulers.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/schedule/concepts.hpp"
#include "ip2p/schedule/discrete_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// Noise levels at evenly spaced training timesteps, interpolated linearly in sigma (not log sigma), then 0.
///
/// Reference: diffusers `EulerDiscreteScheduler` and `EulerAncestralDiscreteScheduler`, including their quirks: with
/// `linspace` a run of one step visits timestep 0, and `leading` scales unit-variance noise by sqrt(sigma_0^2 + 1).
/// diffusers' `DDIMScheduler` and `DDPMScheduler` visit the same timesteps, but round those of `linspace`.
struct LinearSigmas {
  /// Its name for `AnySchedule`.
  static constexpr std::string_view name = "linear";

  DiscreteSchedule training{TrainingNoise{.single_precision = true}};  ///< Noise levels that the model was trained on.
  TimestepSpacing spacing = TimestepSpacing::linspace;                 ///< Which timesteps a run visits.
  std::int64_t steps_offset = 0;                                       ///< Added to the timesteps of `leading`, >= 0.
  /// Always scale the initial unit-variance noise by sqrt(sigma_0^2 + 1), as diffusers' DDIM, DDPM and multistep
  /// schedulers do. If false, only `leading` does so.
  bool unit_variance_start = false;

  /// The schedule as diffusers would run it, hence with training noise computed in single precision.
  static LinearSigmas from_config(const SchedulerConfig& config) {
    TrainingNoise noise = config.noise;
    noise.single_precision = true;
    return {.training = DiscreteSchedule(noise), .spacing = config.spacing, .steps_offset = config.steps_offset};
  }

  /// The n timesteps of a run, strictly decreasing, in [0, N - 1]. Throws `Error` for n < 1, and for an n so large that
  /// timesteps would repeat.
  [[nodiscard]] std::vector<double> timesteps(std::int64_t n) const {
    detail::require_steps(n);
    require(steps_offset >= 0, "LinearSigmas: expected steps_offset >= 0, found {}", steps_offset);
    const std::int64_t trained = training.timesteps();
    require(spacing == TimestepSpacing::linspace || n <= trained,
            "steps: expected at most the model's {} training timesteps, found {}", trained, n);
    const auto count = static_cast<double>(n);
    const auto last = static_cast<double>(trained - 1);
    std::vector<double> visited;
    visited.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const auto k = static_cast<double>(n - 1 - i);
      double t = 0.0;
      if (spacing == TimestepSpacing::linspace) {
        t = n == 1 ? 0.0 : static_cast<double>(static_cast<float>(k * (last / (count - 1.0))));
      } else if (spacing == TimestepSpacing::leading) {
        t = k * static_cast<double>(trained / n) + static_cast<double>(steps_offset);
      } else {
        // For some n the values end in .5. As in numpy's arange and round, the stride is rounded first and halves go to
        // even.
        const auto end = static_cast<double>(trained);
        const double stride = (end - end / count) - end;
        t = std::nearbyint(end + static_cast<double>(i) * stride) - 1.0;
      }
      visited.push_back(std::min(t, last));
      require(i == 0 || visited[visited.size() - 2] > t,
              "steps: expected distinct timesteps, found {} twice in {} steps", t, n);
    }
    return visited;
  }

  /// n + 1 noise levels. Throws `Error` as `timesteps` does.
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    const std::vector<double>& trained = training.training_sigmas();
    std::vector<double> levels;
    levels.reserve(static_cast<std::size_t>(n > 0 ? n : 0) + 1);
    for (const double t : timesteps(n)) {
      const std::size_t low = std::min(static_cast<std::size_t>(t), trained.size() - 2);
      levels.push_back(trained[low] + (t - static_cast<double>(low)) * (trained[low + 1] - trained[low]));
    }
    levels.push_back(0.0);
    return levels;
  }

  /// Fractional timestep of a noise level, linear in sigma, so it is the inverse of `timesteps` to `sigmas`. Levels
  /// outside the trained range are clamped to it. Throws `Error` for negative or non-finite sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const {
    require(std::isfinite(sigma) && sigma >= 0.0, "sigma: expected a finite value >= 0, found {}", sigma);
    const std::vector<double>& trained = training.training_sigmas();
    const auto above = std::upper_bound(trained.begin(), trained.end(), sigma) - trained.begin();
    const auto low = static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(above - 1, 0, training.timesteps() - 2));
    return static_cast<double>(low) + std::clamp((sigma - trained[low]) / (trained[low + 1] - trained[low]), 0.0, 1.0);
  }

  /// The scale of the initial unit-variance noise: sigmas[0], or sqrt(sigmas[0]^2 + 1) with `unit_variance_start` and
  /// for `leading`, whose first timestep is not the noisiest one.
  [[nodiscard]] double initial_sigma(const std::vector<double>& sigmas) const {
    require(!sigmas.empty(), "sigmas: expected at least one value, found none");
    const double first = sigmas.front();
    return unit_variance_start || spacing == TimestepSpacing::leading ? std::sqrt(first * first + 1.0) : first;
  }
};

static_assert(SchedulePolicy<LinearSigmas>);

}  // namespace ip2p
