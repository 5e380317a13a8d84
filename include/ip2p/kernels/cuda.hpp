#pragma once

/// \file
/// The table of fused operators of CUDA devices. Empty unless the program's target went through `ip2p_add_kernels()` of
/// CMake, which compiles the device code, defines IP2P_HAS_CUDA_KERNELS and registers the table at start, so that
/// programs need not include this header.

#ifdef IP2P_HAS_CUDA_KERNELS

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstddef>
#include <mutex>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cuda/bound.hpp"
#include "ip2p/kernels/cuda/launch.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p {

namespace detail {

/// CUDA, as `kernels::Bound` wants it.
struct CudaDevice {
  using Queue = kernels::OnStream;

  /// Makes a tensor's device the current one; queues on the current stream.
  struct Scope {
    explicit Scope(const at::Tensor& x)
        : guard(x.device()), queue{c10::cuda::getCurrentCUDAStream(x.device().index()).stream()} {}
    c10::cuda::CUDAGuard guard;
    Queue queue;
  };

  static bool has(const at::Tensor& x) { return x.is_cuda() && limits(x).compute_major >= 8; }

  static const char* text(kernels::Status status) { return kernels::status_text(status); }

  /// \throws Error when CUDA does not answer
  static kernels::DeviceLimits limits(const at::Tensor& x) {
    static std::mutex lock;
    static std::vector<kernels::DeviceLimits> known;  // by index; an unknown one has no multiprocessors
    const auto index = static_cast<std::size_t>(x.device().index());
    const std::scoped_lock locked(lock);
    if (known.size() <= index) known.resize(index + 1);
    if (known[index].multiprocessors == 0) {
      const c10::cuda::CUDAGuard guard(x.device());
      const auto status = kernels::device_limits(static_cast<int>(index), known[index]);
      require(status == 0, "CUDA device {}: expected its limits, found error {} ({})", index, status, text(status));
    }
    return known[index];
  }
};

}  // namespace detail

/// The fused operators of CUDA devices from compute capability 8.0 on; older ones, and those for which the program
/// holds no device code, get LibTorch's operators. It is registered at start; `register_kernels(at::kCUDA, nullptr)`
/// takes it out.
inline const Kernels& cuda_kernels() { return kernels::Bound<detail::CudaDevice>::table(); }

}  // namespace ip2p

#endif  // IP2P_HAS_CUDA_KERNELS
