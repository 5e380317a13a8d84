#pragma once

/// \file
/// Runs device kernels on the host: every thread of a cluster, phase after phase, with what stands between phases done
/// as the device does it. Shared memory and registers begin as NaN.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/full.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cuda/element.cuh"
#include "ip2p/kernels/cuda/phases.cuh"
#include "support/catch.hpp"

namespace on_host {

using namespace ip2p::kernels;

/// A `Queue` of the kernels' functions.
struct Run {
  /// Threads in the opposite order: what depends on the order of threads within a phase is a race on the device.
  bool backwards = false;

  template <class Kernel>
  Status operator()(const Kernel& kernel, const Grid& grid) const {
    static_assert(Kernel::threads % warp_size == 0 && Kernel::threads <= 1024);
    const std::int64_t together = grid.cluster ? grid.x : 1;
    REQUIRE(together <= 8);
    REQUIRE(grid.y <= 65535);
    REQUIRE(grid.z <= 65535);
    REQUIRE(grid.shared_bytes <= (227u << 10));
    Cluster<Kernel> cluster;
    cluster.blocks = static_cast<int>(together);
    for (std::int64_t z = 0; z < grid.z; ++z) {
      for (std::int64_t y = 0; y < grid.y; ++y) {
        for (std::int64_t x = 0; x < grid.x; x += together) {
          cluster.begin(
              Place{0, static_cast<int>(x), static_cast<int>(y), static_cast<int>(z), static_cast<int>(grid.x)},
              grid.shared_bytes);
          run_from<Kernel::first>(kernel, cluster);
        }
      }
    }
    return 0;
  }

 private:
  template <class Kernel>
  struct Cluster {
    int blocks = 1;
    Place first{};
    std::ptrdiff_t stride = 0;
    std::vector<std::max_align_t> memory;
    std::vector<typename Kernel::Registers> registers;

    void begin(const Place& place, std::size_t bytes) {
      first = place;
      constexpr auto unit = sizeof(std::max_align_t);
      const auto units = (bytes + unit - 1) / unit;
      stride = static_cast<std::ptrdiff_t>(units * unit);
      memory.resize(units * static_cast<std::size_t>(blocks) + 1);
      std::memset(static_cast<void*>(memory.data()), 0xff, memory.size() * unit);
      registers.resize(static_cast<std::size_t>(blocks * Kernel::threads));
      std::memset(static_cast<void*>(registers.data()), 0xff, registers.size() * sizeof(registers[0]));
    }
  };

  template <int phase, class Kernel>
  void run_from(const Kernel& kernel, Cluster<Kernel>& cluster) const {
    const int count = cluster.blocks * Kernel::threads;
    for (int i = 0; i < count; ++i) {
      const int one = backwards ? count - 1 - i : i;
      const int block = one / Kernel::threads;
      auto place = cluster.first;
      place.thread = one % Kernel::threads;
      place.x += block;
      const SharedMemory memory{reinterpret_cast<std::byte*>(cluster.memory.data()) + block * cluster.stride,
                                cluster.stride, block};
      kernel.template run<phase>(place, cluster.registers[static_cast<std::size_t>(one)], memory);
    }
    if constexpr (phase < Kernel::last) {
      if constexpr (Kernel::after(phase) == Meeting::warp_sum) sum_over_warps(cluster);
      run_from<phase + 1>(kernel, cluster);
    }
  }

  template <class Kernel>
  static void sum_over_warps(Cluster<Kernel>& cluster) {
    auto& all = cluster.registers;
    for (std::size_t warp = 0; warp < all.size(); warp += warp_size) {
      for (std::size_t value = 0; value < sizeof(all[0].exchanged) / sizeof(float); ++value) {
        for (std::size_t distance = warp_size / 2; distance > 0; distance /= 2) {
          float before[warp_size];
          for (std::size_t lane = 0; lane < warp_size; ++lane) before[lane] = all[warp + lane].exchanged[value];
          for (std::size_t lane = 0; lane < warp_size; ++lane) {
            all[warp + lane].exchanged[value] = before[lane] + before[lane ^ distance];
          }
        }
      }
    }
  }
};

/// The kernels' name of a dtype.
inline Number number_of_dtype(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? Number::bf16 : dtype == at::kHalf ? Number::fp16 : Number::fp32;
}

/// Memory for a kernel's result, between margins that must stay as they are.
class Guarded {
 public:
  /// \param shift elements by which the result misses an alignment of 16 bytes
  Guarded(at::IntArrayRef sizes, at::ScalarType dtype, std::int64_t shift = 0)
      : all_(at::full({2 * margin + shift + c10::multiply_integers(sizes)}, sentinel, at::TensorOptions(dtype))),
        inside_(all_.narrow(0, margin + shift, c10::multiply_integers(sizes)).view(sizes)),
        shift_(shift) {}

  /// The result, after a look at the margins.
  [[nodiscard]] const at::Tensor& checked() const {
    CHECK(all_.narrow(0, 0, margin + shift_).eq(sentinel).all().item<bool>());
    CHECK(all_.narrow(0, margin + shift_ + inside_.numel(), margin).eq(sentinel).all().item<bool>());
    return inside_;
  }
  [[nodiscard]] void* data() const { return inside_.data_ptr(); }

 private:
  static constexpr std::int64_t margin = 64;
  static constexpr double sentinel = -1234;
  at::Tensor all_, inside_;
  std::int64_t shift_;
};

/// A copy of x whose memory misses an alignment of 16 bytes by `shift` elements.
inline at::Tensor shifted_copy(const at::Tensor& x, std::int64_t shift) {
  auto all = at::full({x.numel() + 8 + shift}, 0, x.options());
  auto result = all.narrow(0, shift, x.numel()).view(x.sizes());
  result.copy_(x);
  return result;
}

/// Largest difference over the largest expected value.
inline double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  const auto scale = expected.to(at::kDouble).abs().max().item<double>();
  const auto apart = (found.to(at::kDouble) - expected.to(at::kDouble)).abs().max().item<double>();
  return apart / (scale > 0 ? scale : 1.0);
}

/// What `relative_error` may be of a result of this dtype that was computed in fp32: half a unit in the last place of
/// the largest value, and for fp32 some of them.
inline double tolerance(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? 0x1p-8 : dtype == at::kHalf ? 0x1p-11 : 1e-6;
}

}  // namespace on_host
