#pragma once

/// \file
/// Schedule and prediction of a published model, by its configuration.

#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/sampling/diffusion.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// What a model's files say that it was trained with.
using ModelDiffusion = Diffusion<AnySchedule, AnyPrediction>;

/// The model's noise and prediction, under the schedule of the program that `numerics` names: log-linear noise levels
/// for `released`, linear ones for `diffusers`. Another schedule takes its place by
/// `pipeline.diffusion.schedule = AnySchedule::named(name, config)`.
inline ModelDiffusion diffusion_of(const SchedulerConfig& config, Numerics numerics = Numerics::released) {
  const AnyPrediction prediction{config.prediction};
  if (numerics == Numerics::released) return {LogLinearSigmas::from_config(config), prediction};
  return {LinearSigmas::from_config(config), prediction};
}

}  // namespace ip2p
