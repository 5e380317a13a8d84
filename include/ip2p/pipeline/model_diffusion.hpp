#pragma once

/// \file
/// Schedule and prediction of a published model, from its configuration.

#include "ip2p/pipeline/numerics.hpp"
#include "ip2p/sampling/diffusion.hpp"
#include "ip2p/schedule/any_schedule.hpp"
#include "ip2p/schedule/scheduler_config.hpp"

namespace ip2p {

/// Schedule and prediction chosen at run time by a model's files.
using ModelDiffusion = Diffusion<AnySchedule, AnyPrediction>;

/// The model's noise and prediction with the schedule of the program that `numerics` names: log-linear noise levels for
/// `released`, linear ones for `diffusers`, unless the model asks for Karras' or exponential ones. To replace the
/// schedule, assign `pipeline.diffusion.schedule = AnySchedule::named(name, config)`.
inline ModelDiffusion diffusion_of(const SchedulerConfig& config, Numerics numerics = Numerics::released) {
  const AnyPrediction prediction{config.prediction};
  if (numerics == Numerics::released) {
    if (config.use_karras_sigmas) return {KarrasSigmas::from_config(config), prediction};
    if (config.use_exponential_sigmas) return {ExponentialSigmas::from_config(config), prediction};
    return {LogLinearSigmas::from_config(config), prediction};
  }
  // diffusers places the levels between the ends of its own spacing.
  const auto linear = LinearSigmas::from_config(config);
  if (config.use_karras_sigmas) return {KarrasSigmas{.training = linear.training, .ends = linear}, prediction};
  if (config.use_exponential_sigmas)
    return {ExponentialSigmas{.training = linear.training, .ends = linear}, prediction};
  return {linear, prediction};
}

}  // namespace ip2p
