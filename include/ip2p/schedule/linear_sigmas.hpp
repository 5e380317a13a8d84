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

/// Noise levels at chosen training timesteps, linear in sigma (not in its logarithm) between the trained ones, then 0.
///
/// Reference: diffusers `EulerDiscreteScheduler` and `EulerAncestralDiscreteScheduler`, including that one step of
/// `linspace` spacing is timestep 0, and that `leading` scales unit-variance noise by sqrt(sigma_0^2 + 1). Its
/// `DDIMScheduler` and `DDPMScheduler` visit the same timesteps, with `linspace` rounded to whole ones.
struct LinearSigmas {
  /// Its name for `AnySchedule`.
  static constexpr std::string_view name = "linear";

  DiscreteSchedule training{TrainingNoise{.single_precision = true}};  ///< Noise levels that the model was trained on.
  TimestepSpacing spacing = TimestepSpacing::linspace;                 ///< Which timesteps a run visits.
  std::int64_t steps_offset = 0;                                       ///< Added to the timesteps of `leading`, >= 0.
  /// Start every run at sqrt(sigma_0^2 + 1) times unit-variance noise, as diffusers' DDIM, DDPM and multistep
  /// schedulers do; without it only `leading` does.
  bool unit_variance_start = false;

  /// As diffusers would run the model, hence with the training noise in its precision.
  static LinearSigmas from_config(const SchedulerConfig& config) {
    TrainingNoise noise = config.noise;
    noise.single_precision = true;
    return {.training = DiscreteSchedule(noise), .spacing = config.spacing, .steps_offset = config.steps_offset};
  }

  /// The n timesteps of a run, strictly decreasing, in [0, N - 1]. Throws `Error` for n < 1, and for more steps than
  /// the spacing has distinct timesteps.
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
        // Ends in halves for some n: the stride is rounded and halves go to even as in numpy's arange and round.
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

  /// Fractional timestep of a noise level, linear in sigma, so that `timesteps` come back; levels outside the trained
  /// range give the nearest end. Throws `Error` for negative or non-finite sigma.
  [[nodiscard]] double sigma_to_t(double sigma) const {
    require(std::isfinite(sigma) && sigma >= 0.0, "sigma: expected a finite value >= 0, found {}", sigma);
    const std::vector<double>& trained = training.training_sigmas();
    const auto above = std::upper_bound(trained.begin(), trained.end(), sigma) - trained.begin();
    const auto low = static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(above - 1, 0, training.timesteps() - 2));
    return static_cast<double>(low) + std::clamp((sigma - trained[low]) / (trained[low + 1] - trained[low]), 0.0, 1.0);
  }

  /// The factor of unit-variance start noise: the first noise level, or sqrt(level^2 + 1) with `unit_variance_start`
  /// and for `leading`, whose first timestep is not the noisiest one.
  [[nodiscard]] double initial_sigma(const std::vector<double>& sigmas) const {
    require(!sigmas.empty(), "sigmas: expected at least one value, found none");
    const double first = sigmas.front();
    return unit_variance_start || spacing == TimestepSpacing::leading ? std::sqrt(first * first + 1.0) : first;
  }
};

static_assert(SchedulePolicy<LinearSigmas>);

}  // namespace ip2p
