#pragma once

/// \file
/// Makes the denoiser of a guided run from a network that predicts several branches.

#include <utility>

#include "ip2p/guidance/concepts.hpp"
#include "ip2p/guidance/guided.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/concepts.hpp"

namespace ip2p {

/// The `Denoiser` of one run: `network` with `guidance`, whose state starts here. An ordinary guidance combines the
/// network's predictions, `NetworkDenoiser(Guided(network, guidance), ...)`; one with `over_estimates` combines
/// estimates of x0, `Guided(NetworkDenoiser(network, ...), guidance)`.
///
/// \param network branch-wise, in the first form described at `Guided`; use `std::ref` if it is expensive to copy
/// \param schedule maps noise levels to timesteps  \param prediction what the network's output means
template <class Network, class Guidance, class Schedule, class Prediction>
[[nodiscard]] auto guided_denoiser(Network network, Guidance guidance, Schedule schedule, Prediction prediction) {
  require_guidance_policy<Guidance>();
  require_schedule_policy<Schedule>();
  require_prediction_policy<Prediction>();
  if constexpr (over_estimates<Guidance>()) {
    return Guided(NetworkDenoiser(std::move(network), std::move(schedule), std::move(prediction)), std::move(guidance));
  } else {
    return NetworkDenoiser(Guided(std::move(network), std::move(guidance)), std::move(schedule), std::move(prediction));
  }
}

}  // namespace ip2p
