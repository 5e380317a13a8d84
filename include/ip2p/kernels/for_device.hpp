#pragma once

/// \file
/// Which table of fused operators serves a tensor.

#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/fused.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p {

/// The table for tensors of a device type: the registered one, or else the library's own.
inline const Kernels& kernels_for(c10::DeviceType device) {
  if (const auto* table = registered_kernels(device)) return *table;
  return device == at::kCPU ? cpu_kernels() : libtorch_kernels();
}

/// The table for the device of x.
inline const Kernels& kernels_for(const at::Tensor& x) { return kernels_for(x.device().type()); }

}  // namespace ip2p
