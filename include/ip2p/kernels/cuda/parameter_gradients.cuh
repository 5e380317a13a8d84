#pragma once

/// \file
/// The last step of the gradients of a normalisation's weight and bias.

#include <cstdint>

#include "ip2p/kernels/cuda/element.cuh"
#include "ip2p/kernels/cuda/phases.cuh"

namespace ip2p::kernels {

/// Adds up what samples, or chunks of rows, add to the gradients of bias and weight.
struct ParameterGradients {
  static constexpr int threads = 256;
  static constexpr int first = 0, last = 0;
  struct Registers {};

  const float* sums;  ///< [count, 2, channels]: of bias, then of weight.
  std::int64_t count, channels;
  MutableAnyNumbers dbias, dweight;  ///< [channels], or none.

  template <int>
  IP2P_HOST_DEVICE void run(const Place& place, Registers& /*none*/, const SharedMemory& /*none*/) const {
    const std::int64_t i = static_cast<std::int64_t>(place.x) * threads + place.thread;
    if (i >= 2 * channels) return;
    float sum = 0.0f;
    for (std::int64_t k = 0; k < count; ++k) sum += sums[k * 2 * channels + i];
    if (i < channels) {
      dbias.set(i, sum);
    } else {
      dweight.set(i - channels, sum);
    }
  }
};

}  // namespace ip2p::kernels
