#pragma once

/// \file
/// The device code as functions that any compiler can call: raw pointers, sizes, a stream; an error code of CUDA comes
/// back. They queue work and neither wait nor allocate. Their definitions are in launch.cuh, for one unit of a program
/// that nvcc compiles, which `ip2p_add_kernels()` of CMake adds. Devices from compute capability 8.0 on.

#include "ip2p/kernels/cuda/elementwise.cuh"
#include "ip2p/kernels/cuda/group_norm.cuh"
#include "ip2p/kernels/cuda/layer_norm.cuh"
#include "ip2p/kernels/cuda/phases.cuh"

namespace ip2p::kernels {

/// What the sizes of launches depend on, for the current device. \param device its index
Status device_limits(int device, DeviceLimits& limits);

/// CUDA's words for an error code.
const char* status_text(Status status);

/// See group_norm.cuh.
Status group_norm_forward(const GroupNormForwardArguments& given, const MapPlan& plan, void* workspace,
                          const OnStream& queue);
/// See group_norm.cuh.
Status group_norm_backward(const GroupNormBackwardArguments& given, const MapPlan& plan, void* workspace,
                           const OnStream& queue);
/// See layer_norm.cuh.
Status add_layer_norm_forward(const LayerNormForwardArguments& given, const OnStream& queue);
/// See layer_norm.cuh.
Status add_layer_norm_backward(const LayerNormBackwardArguments& given, void* workspace, const OnStream& queue);
/// See elementwise.cuh.
Status geglu_forward(const GegluArguments& given, const OnStream& queue);
/// See elementwise.cuh.
Status geglu_backward(const GegluArguments& given, const OnStream& queue);
/// See elementwise.cuh.
Status add_bias_residual(const BiasResidualArguments& given, const OnStream& queue);
/// See elementwise.cuh.
Status upsample_nearest_2x(const UpsampleArguments& given, const OnStream& queue);
/// See elementwise.cuh.
Status guided_step(const GuidedStepArguments& given, const OnStream& queue);

}  // namespace ip2p::kernels
