#pragma once

/// \file
/// NCCL between the GPUs of processes that `launch()` brings together. Empty unless the program is compiled with CUDA
/// and NCCL's header: CMake then defines IP2P_HAS_NCCL.

#ifdef IP2P_HAS_NCCL

// The header of c10d's NCCL shows nothing without this.
#ifndef USE_C10D_NCCL
#define USE_C10D_NCCL
#endif

#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "ip2p/parallel/environment.hpp"

namespace ip2p::detail {

/// Whether every process has a GPU of its own, number `local_rank` of its machine. All processes make this call; all
/// get the same answer, because a group in which one process uses another engine than the others would wait for ever.
inline bool all_have_gpus(c10d::Store& store, const ProcessPlace& place) {
  const auto note = [](std::int64_t rank) { return "gpu/" + std::to_string(rank); };
  store.set(note(place.rank), std::string(place.local_rank < c10::cuda::device_count() ? "1" : "0"));
  for (std::int64_t rank = 0; rank < place.size; ++rank) {
    if (store.get_to_str(note(rank)) != "1") return false;
  }
  return true;
}

/// Makes NCCL the engine of tensors on GPUs in `group`, and GPU number `local_rank` the current one.
inline void use_nccl(c10d::ProcessGroup& group, const c10::intrusive_ptr<c10d::Store>& store, const ProcessPlace& place,
                     std::chrono::milliseconds timeout) {
  // Otherwise a process that lost its neighbours is ended by NCCL's watchdog instead of being told.
  setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(place.local_rank));
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  group.setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL,
                   c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::PrefixStore>("nccl", store),
                                                               static_cast<int>(place.rank),
                                                               static_cast<int>(place.size), std::move(options)));
}

}  // namespace ip2p::detail

#endif
