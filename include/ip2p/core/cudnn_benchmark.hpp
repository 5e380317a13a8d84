#pragma once

/// \file
/// How cuDNN chooses its algorithms.

#include <ATen/Context.h>
#include <c10/core/Device.h>

namespace ip2p {

/// Lets cuDNN measure its convolution algorithms at each new shape and keep the fastest, if `device` is a CUDA device:
/// a run repeats the same shapes at every step, so that it pays in the first. A setting of the process; every run of a
/// pipeline sets it. Left alone where cuDNN is to be deterministic (`at::globalContext().setDeterministicCuDNN(true)`),
/// because measurements differ from one process to the next.
inline void benchmark_convolutions(at::Device device) {
  auto& context = at::globalContext();
  if (device.is_cuda() && !context.deterministicCuDNN()) context.setBenchmarkCuDNN(true);
}

}  // namespace ip2p
