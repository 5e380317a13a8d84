#pragma once

/// \file
/// How the kernels of this folder are written: as a value with a few phases, between which threads meet.
///
/// A kernel K is a copyable struct with its arguments as members and
///
///     static constexpr int threads;                // of a block, a multiple of 32
///     static constexpr int first, last;            // its phases
///     static IP2P_HOST_DEVICE constexpr Meeting after(int phase);   // what stands between `phase` and the next one
///     struct Registers { float exchanged[m]; ... };   // a thread's variables that outlive a phase
///     template <int phase> IP2P_HOST_DEVICE void run(const Place&, Registers&, const SharedMemory&) const;
///
/// where a thread that has nothing to do in a phase returns from it. In this form the body of a kernel holds no
/// instruction of the device, so that a test runs the same code on the host: thread after thread, phase after phase.
///
/// Nothing here names LibTorch: pointers, sizes, a stream.

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#endif

#include "ip2p/kernels/arithmetic.hpp"

struct CUstream_st;

namespace ip2p::kernels {

/// What threads do between two phases.
enum class Meeting {
  block,     ///< Wait for the block; its writes to shared memory are seen.
  cluster,   ///< Wait for the cluster; its writes to all its shared memories are seen.
  warp_sum,  ///< `exchanged` becomes its sum over the warp, in every lane.
};

/// Lanes of a warp.
inline constexpr int warp_size = 32;

/// Where a thread stands in the grid. A cluster consists of all blocks with the same y and z.
struct Place {
  int thread;   ///< Of its block.
  int x, y, z;  ///< Of its block in the grid.
  int blocks;   ///< Of the grid, along x.

  /// Place within the warp.
  [[nodiscard]] IP2P_HOST_DEVICE int lane() const { return thread % warp_size; }
  /// Number of the thread in a grid along x with blocks of `threads`.
  [[nodiscard]] IP2P_HOST_DEVICE unsigned index(int threads) const {
    return static_cast<unsigned>(x) * static_cast<unsigned>(threads) + static_cast<unsigned>(thread);
  }
  /// Number of the warp within the block.
  [[nodiscard]] IP2P_HOST_DEVICE int warp() const { return thread / warp_size; }
};

/// The shared memory of a block and, in a cluster, of its peers; 16-byte aligned.
struct SharedMemory {
  std::byte* own;              ///< This block's.
  std::ptrdiff_t host_stride;  ///< On the host, from one block's memory to the next one's. Unused on the device.
  int host_rank;               ///< On the host, this block's rank in its cluster. Unused on the device.

  /// The memory of the cluster's block `rank`.
  [[nodiscard]] IP2P_HOST_DEVICE std::byte* of(int rank) const {
#if defined(__CUDA_ARCH__)
#if __CUDA_ARCH__ >= 900
    return static_cast<std::byte*>(__cluster_map_shared_rank(own, static_cast<unsigned>(rank)));
#else
    return own;  // no clusters: every block is alone
#endif
#else
    return own + (rank - host_rank) * host_stride;
#endif
  }
};

/// What sizes depend on.
struct DeviceLimits {
  int multiprocessors;  ///< Of the device.
  /// Major compute capability of the device, or of the code if that was compiled for an older one; 0 if there is none
  /// that the device can run. Clusters from 9 on.
  int compute_major;
  std::size_t shared_bytes;  ///< Largest shared memory of a block.
};

/// Error codes of CUDA, of which 0 is success, where CUDA is not there to name them.
using Status = int;
/// CUDA's own for sizes that a kernel does not take.
inline constexpr Status invalid_value = 1;

/// A stream of CUDA; see kernels/cuda/launch.hpp.
struct OnStream {
  CUstream_st* stream;  ///< cudaStream_t
};

/// Sizes of a launch.
struct Grid {
  std::int64_t x = 1, y = 1, z = 1;  ///< Blocks.
  bool cluster = false;              ///< Whether the blocks along x are one cluster, at most 8.
  std::size_t shared_bytes = 0;      ///< Of each block.
};

#ifdef __CUDACC__

/// What stands between two phases, on the device.
template <Meeting meeting, class Registers>
__device__ __forceinline__ void meet(Registers& registers) {
  if constexpr (meeting == Meeting::warp_sum) {
#pragma unroll
    for (float& value : registers.exchanged) {
#pragma unroll
      for (int distance = warp_size / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, distance);
      }
    }
  } else if constexpr (meeting == Meeting::cluster) {
#if __CUDA_ARCH__ >= 900
    __cluster_barrier_arrive();
    __cluster_barrier_wait();
#else
    __syncthreads();
#endif
  } else {
    __syncthreads();
  }
}

/// All phases from `phase` on.
template <int phase, class Kernel>
__device__ __forceinline__ void run_from(const Kernel& kernel, const Place& place,
                                         typename Kernel::Registers& registers, const SharedMemory& memory) {
  kernel.template run<phase>(place, registers, memory);
  if constexpr (phase < Kernel::last) {
    meet<Kernel::after(phase)>(registers);
    run_from<phase + 1>(kernel, place, registers, memory);
  }
}

/// The one kernel that CUDA sees.
template <class Kernel>
__global__ void __launch_bounds__(Kernel::threads) run_kernel(const __grid_constant__ Kernel kernel) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Place place{static_cast<int>(threadIdx.x), static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y),
                    static_cast<int>(blockIdx.z), static_cast<int>(gridDim.x)};
  typename Kernel::Registers registers;
  run_from<Kernel::first>(kernel, place, registers, SharedMemory{reinterpret_cast<std::byte*>(shared), 0, 0});
}

/// Queues kernels on a stream: the `Queue` of all functions of this folder that take one. A test has another, which
/// runs them on the host.
struct LaunchOn {
  cudaStream_t stream;

  /// Bytes of shared memory that any kernel may have.
  static constexpr std::size_t without_asking = 48 << 10;

  /// An empty grid is no error. \return an error code of CUDA
  template <class Kernel>
  Status operator()(const Kernel& kernel, const Grid& grid) const {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
    if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return invalid_value;
    if (grid.shared_bytes > without_asking) {
      // Always all that there is, because another thread may ask for another size in between.
      int device = 0, most = 0;
      auto error = cudaGetDevice(&device);
      if (error == cudaSuccess) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
      if (error == cudaSuccess) {
        error = cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
      }
      if (error != cudaSuccess) return error;
    }
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(grid.x), 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z));
    config.blockDim = dim3(Kernel::threads);
    config.dynamicSmemBytes = grid.shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = grid.cluster && grid.x > 1 ? 1 : 0;
    return cudaLaunchKernelEx(&config, run_kernel<Kernel>, kernel);
  }
};

#endif  // __CUDACC__

}  // namespace ip2p::kernels
