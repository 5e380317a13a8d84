#pragma once

/// \file
/// The noise of torch's CUDA generator, computed on the CPU.

#include <ATen/core/PhiloxRNGEngine.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// How many threads a GPU runs at once. torch splits a tensor among at most that many, so the noise of a larger tensor
/// depends on the GPU. The default is an A100: 108 x 2048 = 221,184 elements.
struct GpuThreads {
  std::int64_t multiprocessors = 108;              ///< A100: 108, H100 SXM: 132, RTX 3090: 82, RTX 4090: 128
  std::int64_t threads_per_multiprocessor = 2048;  ///< A100 and H100: 2048, RTX 30 and 40: 1536, RTX 20: 1024
};

/// The stream of `torch.Generator("cuda").manual_seed(seed)`: draw k is the k-th `torch.randn` of that shape on a GPU,
/// up to float rounding (values differ by at most about 3e-6, because GPUs use fast sine and cosine instructions). Use
/// it with seeds published for pictures that were made on a GPU.
///
/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) with key = seed and counter =
/// (offset, thread); the four 32-bit words of a block become four normal values by the Box-Muller transform in single
/// precision, sine first, as cuRAND's `curand_normal4` does. torch launches blocks of 256 threads, one thread per
/// element if the GPU has that many; with T threads in all, thread i writes its four values to elements i, i + T,
/// i + 2 T, i + 3 T, and values past the end are dropped. A draw of up to 4 T elements advances the offset by one, a
/// larger one by the number of steps that its threads take.
///
/// A tensor of up to `threads.multiprocessors * threads_per_multiprocessor` elements has the same noise on every GPU
/// with at least that many threads: the latents of a 512 x 512 picture (16,384 elements) on any GPU, those of twelve
/// such pictures on an A100. `GpuThreads` matters only for larger tensors.
///
/// With one seed the whole batch is drawn from one generator; with one seed per sample, each sample [1, ...] has its
/// own generator, as in diffusers with a list of generators. As with `TorchNoise`, the noise depends on the order of
/// draws: the draw number is only validated. To skip a draw, call `discard_draw`.
class PhiloxNoise {
 public:
  /// Its name for `AnyNoise`.
  static constexpr std::string_view name = "cuda";

  /// One generator for the whole batch. Throws `Error` for a GPU with no multiprocessor or fewer than 256 threads each.
  explicit PhiloxNoise(std::uint64_t seed, GpuThreads threads = {})
      : PhiloxNoise(std::vector<std::uint64_t>{seed}, threads) {}

  /// One generator per sample (or, with a single seed, one for the whole batch). Throws `Error` without seeds.
  explicit PhiloxNoise(std::vector<std::uint64_t> seeds, GpuThreads threads = {})
      : seeds_(std::move(seeds)),
        most_blocks_(threads.multiprocessors * (threads.threads_per_multiprocessor / block_size)) {
    require(!seeds_.empty(), "PhiloxNoise: expected at least one seed, found none");
    require(threads.multiprocessors >= 1 && threads.threads_per_multiprocessor >= block_size,
            "PhiloxNoise: expected a GPU with at least one multiprocessor of {} threads or more, found {} of {}",
            block_size, threads.multiprocessors, threads.threads_per_multiprocessor);
  }

  /// One generator per sample, or one for the batch; how `AnyNoise` makes it. \throws Error without seeds
  static PhiloxNoise from_seeds(std::vector<std::uint64_t> seeds) { return PhiloxNoise(std::move(seeds)); }

  /// The next noise of the stream, fp32 [B, ...] on the CPU. Throws `Error` if B is not the number of seeds (and that
  /// number is not 1).
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    const std::int64_t batch = detail::noise_batch(shape, draw);
    require(seeds_.size() == 1 || batch == static_cast<std::int64_t>(seeds_.size()),
            "PhiloxNoise: expected one seed or one for each of the {} samples, found {} seeds", batch, seeds_.size());
    at::Tensor noise = at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(at::kCPU));
    const std::int64_t each = noise.numel() / static_cast<std::int64_t>(seeds_.size());
    if (each == 0) return noise;  // torch starts no kernel for an empty tensor and leaves the generator as it is.

    const std::int64_t threads = block_size * std::min(most_blocks_, (each + block_size - 1) / block_size);
    const std::int64_t steps = (each - 1) / (words * threads) + 1;
    auto* out = noise.mutable_data_ptr<float>();
    for (const std::uint64_t seed : seeds_) {
      fill(out, each, seed, threads, steps);
      out += each;
    }
    offset_ += static_cast<std::uint64_t>(steps);
    return noise;
  }

 private:
  static constexpr std::int64_t block_size = 256;
  static constexpr std::int64_t words = 4;  ///< Values of one block of random bits.

  void fill(float* out, std::int64_t elements, std::uint64_t seed, std::int64_t threads, std::int64_t steps) const {
    for (std::int64_t thread = 0; thread < std::min(threads, elements); ++thread) {
      at::philox_engine engine(seed, static_cast<std::uint64_t>(thread), offset_);
      for (std::int64_t step = 0; step < steps; ++step) {
        const std::array<std::uint32_t, words> bits{engine(), engine(), engine(), engine()};
        for (std::int64_t word = 0; word < words; ++word) {
          const std::int64_t element = thread + (step * words + word) * threads;
          if (element >= elements) break;
          const auto pair = static_cast<std::size_t>(word / 2 * 2);
          out[element] = box_muller(bits[pair], bits[pair + 1], word % 2 == 0);
        }
      }
    }
  }

  /// cuRAND's transform. The radius is in single precision, as in cuRAND: near u = 1 it is dominated by rounding.
  static float box_muller(std::uint32_t radius_bits, std::uint32_t angle_bits, bool sine) {
    constexpr float to_unit = 0x1p-32F;
    constexpr float to_angle = 2.3283064e-10F * 6.2831855F;
    const float u = static_cast<float>(radius_bits) * to_unit + to_unit / 2;
    const float radius = std::sqrt(-2.0F * std::log(u));
    const double angle = std::fma(static_cast<float>(angle_bits), to_angle, to_angle / 2);
    return radius * static_cast<float>(sine ? std::sin(angle) : std::cos(angle));
  }

  std::vector<std::uint64_t> seeds_;
  std::int64_t most_blocks_;
  std::uint64_t offset_ = 0;  ///< Blocks of random bits that each thread has used.
};

static_assert(NoiseSource<PhiloxNoise>);

}  // namespace ip2p
