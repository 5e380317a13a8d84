#pragma once

/// \file
/// How cuDNN chooses its algorithms.

#include <ATen/Context.h>
#include <c10/core/Device.h>

#include <atomic>

namespace ip2p {

namespace detail {

inline std::atomic<bool> may_benchmark_convolutions{true};

}  // namespace detail

/// Lets cuDNN measure its convolution algorithms at each new shape and keep the fastest, if `device` is a CUDA device:
/// a run repeats the same shapes at every step, so that it pays in the first. A setting of the process; every run of a
/// pipeline sets it. Left alone where cuDNN is to be deterministic (`at::globalContext().setDeterministicCuDNN(true)`),
/// because measurements differ from one process to the next, and after `allow_convolution_benchmark(false)`.
inline void benchmark_convolutions(at::Device device) {
  auto& context = at::globalContext();
  if (device.is_cuda() && !context.deterministicCuDNN() && detail::may_benchmark_convolutions) {
    context.setBenchmarkCuDNN(true);
  }
}

/// Whether runs may let cuDNN measure its algorithms; true from the start. `false` also stops it from doing so now: it
/// then chooses by its rules, at once, which suits shapes that seldom repeat.
inline void allow_convolution_benchmark(bool allowed) {
  detail::may_benchmark_convolutions = allowed;
  if (!allowed) at::globalContext().setBenchmarkCuDNN(false);
}

}  // namespace ip2p
