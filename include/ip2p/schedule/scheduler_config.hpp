#pragma once

/// \file
/// A model's scheduler_config.json as plain data: its training noise, prediction type and preferred spacing.

#include <cstdint>

#include "ip2p/schedule/discrete_schedule.hpp"

namespace ip2p {

/// What the network predicts.
enum class PredictionType {
  epsilon,       ///< The noise (Ho et al. 2020); Stable Diffusion 1.x, InstructPix2Pix.
  v_prediction,  ///< v = alpha * noise - sigma' * x0 (Salimans and Ho 2022); Stable Diffusion 2.x at 768 px.
  sample         ///< The clean latents x0.
};

/// Which of the N training timesteps a run of n steps visits (Lin et al. 2023, table 2).
enum class TimestepSpacing {
  linspace,  ///< n values evenly spaced over [0, N - 1], both ends included, fractional.
  leading,   ///< i * (N / n) in integer division, plus an offset; leaves out the noisiest timestep.
  trailing   ///< From N - 1 down in strides of N / n, rounded; includes the noisiest timestep.
};

/// The fields of a scheduler_config.json that affect results. The defaults are InstructPix2Pix's.
struct SchedulerConfig {
  TrainingNoise noise{};                                ///< What the model was trained with.
  PredictionType prediction = PredictionType::epsilon;  ///< What the network's output means.
  TimestepSpacing spacing = TimestepSpacing::linspace;  ///< Which timesteps a run visits.
  std::int64_t steps_offset = 0;                        ///< Added to the timesteps of `leading`, >= 0.
  bool use_karras_sigmas = false;                       ///< The model's authors ask for Karras noise levels.
  bool use_exponential_sigmas = false;                  ///< The model's authors ask for exponential noise levels.
};

}  // namespace ip2p
