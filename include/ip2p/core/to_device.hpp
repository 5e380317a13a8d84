#pragma once

/// \file
/// Copies small tensors to a device without waiting for it.

#include <c10/core/Device.h>

#include "ip2p/core/tensor.hpp"

namespace ip2p::detail {

/// `values` in pinned memory if they are to be copied from the CPU to a GPU; otherwise unchanged. Undefined stays
/// undefined.
inline at::Tensor pinned_for(const at::Tensor& values, at::Device device) {
  return values.defined() && values.is_cpu() && device.is_cuda() ? values.pin_memory() : values;
}

/// `values` on `device`. From the CPU to a GPU they travel through pinned memory, because a copy from ordinary memory
/// would make the host wait until the GPU has done all that was asked of it before.
inline at::Tensor to_device(const at::Tensor& values, at::Device device) {
  if (!values.is_cpu() || !device.is_cuda() || values.requires_grad()) return values.to(device);
  return pinned_for(values, device).to(device, values.scalar_type(), /*non_blocking=*/true);
}

}  // namespace ip2p::detail
