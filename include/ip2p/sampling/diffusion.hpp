#pragma once

/// \file
/// How a model was trained, as far as a pipeline needs to know: its noise levels and what its network predicts.

#include <type_traits>
#include <utility>

#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/concepts.hpp"

namespace ip2p {

/// A run's schedule and the network's prediction type. Both are determined by how the model was trained, so pipelines
/// have no default for them: the wrong choice would produce noise without any error.
///
///     ip2p::diffusion_of(files)                                        // what a model's files say
///     ip2p::Diffusion{ip2p::EdmSigmas{}, ip2p::EdmPrediction{}}        // explicit policies
template <class Schedule, class Prediction>
struct Diffusion {
  static_assert((require_schedule_policy<Schedule>(), true));

  /// \param schedule_ noise levels of a run  \param prediction_ what the network's output means
  Diffusion(Schedule schedule_, Prediction prediction_)
      : schedule(std::move(schedule_)), prediction(std::move(prediction_)) {}

  Schedule schedule;      ///< A `SchedulePolicy`; may be replaced between runs.
  Prediction prediction;  ///< A `PredictionPolicy`.
};

namespace detail {

template <class Type>
inline constexpr bool is_diffusion = false;
template <class Schedule, class Prediction>
inline constexpr bool is_diffusion<Diffusion<Schedule, Prediction>> = true;

/// What a pipeline deduces when it is not given a `Diffusion`; see `require_diffusion`.
struct NoDiffusion {};

}  // namespace detail

/// Fails to compile, with a one-sentence message, unless `Type` is a `Diffusion` of a schedule and a prediction.
template <class Type>
consteval void require_diffusion() {
  static_assert(
      detail::is_diffusion<Type>,
      "ip2p: a pipeline needs, after its network, what the model was trained with: `ip2p::diffusion_of(files)` "
      "or `ip2p::Diffusion{schedule, prediction}`; see docs/reference/concepts.md#diffusion");
}

}  // namespace ip2p
