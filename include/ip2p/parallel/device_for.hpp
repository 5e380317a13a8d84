#pragma once

/// \file
/// Picks a device for each process when several share a machine.

#include <cstdint>
#include <string_view>

#include "ip2p/core/device.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/parallel/environment.hpp"

namespace ip2p {

namespace detail {

/// Index of the GPU that a process takes: its `local_rank`, or 0 if it sees only one, because Slurm and others may
/// expose a single GPU to each process. `count` is at least 1.
inline std::int64_t gpu_of(const ProcessPlace& place, std::int64_t count) { return count == 1 ? 0 : place.local_rank; }

/// `device_for` where this process sees `count` CUDA devices.
inline at::Device device_for(std::string_view name, const ProcessPlace& place, std::int64_t count) {
  if (name == "cpu" || (name == "auto" && count == 0)) return at::kCPU;
  const auto index = name == "auto" ? std::nullopt : cuda_index(name);
  if (index) {
    const auto device = cuda_device(name, *index, count);
    require(place.local_size == 1 || count == 1,
            "device '{}': expected auto or cuda where {} processes share a machine, so that each takes a GPU of its "
            "own",
            name, place.local_size);
    return device;
  }
  const auto own = count > 0 ? gpu_of(place, count) : 0;
  require(count == 0 || own < count,
          "device '{}': expected a GPU for each process of the machine, found {} for the process with local rank {}",
          name, count, place.local_rank);
  return cuda_device(name, own, count);
}

}  // namespace detail

/// The device of this process: "cpu"; "cuda", a GPU of its own; "cuda:N", that one, for a process alone on its machine;
/// "auto", the same as "cuda" if LibTorch sees a GPU, otherwise the CPU. A process that sees only one GPU takes it.
/// \param place as returned by `place_in_environment()`  \throws Error for other names, a missing device, and fewer
///   GPUs than processes
inline at::Device device_for(std::string_view name, const ProcessPlace& place = {}) {
  return detail::device_for(name, place, detail::cuda_device_count());
}

}  // namespace ip2p
