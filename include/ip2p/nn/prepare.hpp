#pragma once

/// \file
/// Brings a frozen model's weights into their form for inference before the first call.

#include <ATen/Parallel.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p {

/// Calls `Freezable::prepare` of every frozen layer, in LibTorch's threads, each of which takes the next layer when it
/// is done with one. Layers come in the order of the model, in which the system reads a mapped file ahead, so that
/// later weights are read while earlier ones are brought into form. Must not run concurrently with calls or changes of
/// the model. What is not prepared is done by the first call.
inline void prepare(Module& module) {
  const auto layers = detail::frozen_layers(module);
  std::atomic<std::size_t> next = 0;
  detail::in_threads(at::get_num_threads(), 1, [&](std::int64_t, std::int64_t) {
    for (auto i = next++; i < layers.size(); i = next++) layers[i]->prepare();
  });
}

}  // namespace ip2p
