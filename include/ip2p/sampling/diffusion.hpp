#pragma once

/// \file
/// What a model was trained with, as a pipeline needs it: noise levels and the meaning of the network's answer.

#include <type_traits>
#include <utility>

#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/concepts.hpp"

namespace ip2p {

/// The schedule of a run and the prediction of the network, side by side. The model's training decides both, so that no
/// pipeline has a default for them: the wrong one draws noise, without an error.
///
///     ip2p::diffusion_of(files)                                        // what a model's files say
///     ip2p::Diffusion{ip2p::EdmSigmas{}, ip2p::EdmPrediction{}}        // policies of one's choice
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

/// What a pipeline deduces where it is given no `Diffusion`; see `require_diffusion`.
struct NoDiffusion {};

}  // namespace detail

/// Stops compilation with one sentence unless `Type` is a `Diffusion` of a schedule and a prediction.
template <class Type>
consteval void require_diffusion() {
  static_assert(
      detail::is_diffusion<Type>,
      "ip2p: a pipeline needs, after its network, what the model was trained with: `ip2p::diffusion_of(files)` "
      "or `ip2p::Diffusion{schedule, prediction}`; see docs/reference/concepts.md#diffusion");
}

}  // namespace ip2p
