#pragma once

/// \file
/// What a published model says about its own noise: the content of its scheduler_config.json, as plain data.

#include <cstdint>

#include "ip2p/schedule/discrete_schedule.hpp"

namespace ip2p {

/// What the network predicts.
enum class PredictionType {
  epsilon,       ///< The noise (Ho et al. 2020); Stable Diffusion 1.x, InstructPix2Pix.
  v_prediction,  ///< v = alpha * noise - sigma' * x0 (Salimans and Ho 2022); Stable Diffusion 2.x at 768 px.
  sample         ///< The clean latents x0.
};

/// Which of the training timesteps a run of n steps visits (Lin et al. 2023, table 2).
enum class TimestepSpacing {
  linspace,  ///< n values evenly spaced over [0, N - 1], both ends included, fractional.
  leading,   ///< i * (N / n) in whole numbers, plus an offset; never the noisiest timestep.
  trailing   ///< N - 1 down in strides of N / n, rounded; always the noisiest timestep.
};

/// The parts of a scheduler_config.json that decide numbers. The defaults are InstructPix2Pix's.
struct SchedulerConfig {
  TrainingNoise noise{};                                ///< What the model was trained with.
  PredictionType prediction = PredictionType::epsilon;  ///< What the network's output means.
  TimestepSpacing spacing = TimestepSpacing::linspace;  ///< Which timesteps a run visits.
  std::int64_t steps_offset = 0;                        ///< Added to the timesteps of `leading`, >= 0.
  bool use_karras_sigmas = false;                       ///< The model's authors ask for Karras noise levels.
};

}  // namespace ip2p
