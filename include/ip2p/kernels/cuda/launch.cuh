#pragma once

/// \file
/// Definitions of launch.hpp: all kernels, for the one unit of a program that nvcc compiles.

#include <cuda_runtime.h>

#include <algorithm>

#include "ip2p/kernels/cuda/launch.hpp"

namespace ip2p::kernels {

Status device_limits(int device, DeviceLimits& limits) {
  int shared = 0;
  auto error = cudaDeviceGetAttribute(&limits.multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&limits.compute_major, cudaDevAttrComputeCapabilityMajor, device);
  }
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  limits.shared_bytes = static_cast<std::size_t>(shared);
  if (error != cudaSuccess) return error;
  // What the device can do is of use only as far as the code was compiled for it: code for older devices has no
  // clusters, and a program may have none for this one.
  cudaFuncAttributes code{};
  if (cudaFuncGetAttributes(&code, run_kernel<Upsample2x<float, 1>>) == cudaSuccess) {
    limits.compute_major = std::min(limits.compute_major, code.ptxVersion / 10);
  } else {
    cudaGetLastError();  // it would be taken for the next launch's
    limits.compute_major = 0;
  }
  return cudaSuccess;
}

const char* status_text(Status status) { return cudaGetErrorString(static_cast<cudaError_t>(status)); }

Status group_norm_forward(const GroupNormForwardArguments& given, const MapPlan& plan, void* workspace,
                          const OnStream& queue) {
  return group_norm_forward(given, plan, workspace, LaunchOn{queue.stream});
}

Status group_norm_backward(const GroupNormBackwardArguments& given, const MapPlan& plan, void* workspace,
                           const OnStream& queue) {
  return group_norm_backward(given, plan, workspace, LaunchOn{queue.stream});
}

Status add_layer_norm_forward(const LayerNormForwardArguments& given, const OnStream& queue) {
  return add_layer_norm_forward(given, LaunchOn{queue.stream});
}

Status add_layer_norm_backward(const LayerNormBackwardArguments& given, void* workspace, const OnStream& queue) {
  return add_layer_norm_backward(given, workspace, LaunchOn{queue.stream});
}

Status geglu_forward(const GegluArguments& given, const OnStream& queue) {
  return geglu_forward(given, LaunchOn{queue.stream});
}

Status geglu_backward(const GegluArguments& given, const OnStream& queue) {
  return geglu_backward(given, LaunchOn{queue.stream});
}

Status add_bias_residual(const BiasResidualArguments& given, const OnStream& queue) {
  return add_bias_residual(given, LaunchOn{queue.stream});
}

Status upsample_nearest_2x(const UpsampleArguments& given, const OnStream& queue) {
  return upsample_nearest_2x(given, LaunchOn{queue.stream});
}

Status guided_step(const GuidedStepArguments& given, const OnStream& queue) {
  return guided_step(given, LaunchOn{queue.stream});
}

}  // namespace ip2p::kernels
