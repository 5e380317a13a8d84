#pragma once

/// \file
/// NCCL between the GPUs of processes that `launch()` brings together. Empty unless the program is compiled with CUDA
/// and NCCL's header: CMake then defines IP2P_HAS_NCCL.

#ifdef IP2P_HAS_NCCL

// c10d's NCCL header declares nothing without this.
#ifndef USE_C10D_NCCL
#define USE_C10D_NCCL
#endif

#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <utility>

#include "ip2p/parallel/device_for.hpp"
#include "ip2p/parallel/environment.hpp"

namespace ip2p::detail {

/// Whether every process has a GPU of its own, the one that `device_for` gives it. All processes call this and get the
/// same answer: a group in which one process uses a different backend would hang.
inline bool all_have_gpus(c10d::Store& store, const ProcessPlace& place) {
  const auto note = [](std::int64_t rank) { return "gpu/" + std::to_string(rank); };
  // Each process may see a single GPU with index 0, so the PCI bus id tells GPUs apart.
  std::string own;
  const std::int64_t count = c10::cuda::device_count();
  if (count > 0 && gpu_of(place, count) < count) {
    std::array<char, 64> bus{};
    std::array<char, 256> host{};
    if (cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), static_cast<int>(gpu_of(place, count))) ==
            cudaSuccess &&
        gethostname(host.data(), host.size() - 1) == 0) {
      own = std::string(host.data()) + " " + bus.data();
    }
  }
  store.set(note(place.rank), own);
  std::set<std::string> gpus;
  for (std::int64_t rank = 0; rank < place.size; ++rank) {
    const auto gpu = store.get_to_str(note(rank));
    if (gpu.empty() || !gpus.insert(gpu).second) return false;
  }
  return true;
}

/// Makes NCCL the backend for GPU tensors in `group`, and selects this process's GPU.
inline void use_nccl(c10d::ProcessGroup& group, const c10::intrusive_ptr<c10d::Store>& store, const ProcessPlace& place,
                     std::chrono::milliseconds timeout) {
  // Otherwise NCCL's watchdog kills a process whose peers are gone instead of reporting an error.
  setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(gpu_of(place, c10::cuda::device_count())));
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  group.setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL,
                   c10::make_intrusive<c10d::ProcessGroupNCCL>(c10::make_intrusive<c10d::PrefixStore>("nccl", store),
                                                               static_cast<int>(place.rank),
                                                               static_cast<int>(place.size), std::move(options)));
}

}  // namespace ip2p::detail

#endif
