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

/// If `device` is a CUDA device, lets cuDNN measure its convolution algorithms for each new shape and keep the fastest.
/// A run repeats the same shapes at every step, so this pays off within the run. The setting belongs to the process,
/// and every run of a pipeline and every update of a training makes it, unless cuDNN has to be deterministic
/// (`at::globalContext().setDeterministicCuDNN(true)`), because measurements differ from one process to the next, or
/// `allow_convolution_benchmark(false)` was called. cuDNN keeps its choice for each shape and thread, also one that it
/// made without measuring, so call this before a shape is first used; two threads may get different algorithms, whose
/// results differ in the last bits.
inline void benchmark_convolutions(at::Device device) {
  auto& context = at::globalContext();
  if (device.is_cuda() && !context.deterministicCuDNN() && detail::may_benchmark_convolutions) {
    context.setBenchmarkCuDNN(true);
  }
}

/// Whether runs may let cuDNN measure its algorithms; true by default. `false` also switches measuring off at once:
/// cuDNN then chooses by its own rules, without measuring, which suits shapes that seldom repeat.
inline void allow_convolution_benchmark(bool allowed) {
  detail::may_benchmark_convolutions = allowed;
  if (!allowed) at::globalContext().setBenchmarkCuDNN(false);
}

}  // namespace ip2p
