#pragma once

/// \file
/// Sources of Gaussian noise: the concept and two of the built-in sources.
///
/// A sampler never owns a generator; it is handed a noise source and asks it for one tensor per draw. Draw 0 is the
/// initial latents, draw i + 1 the noise that step i adds. A source either replays a stream that other software would
/// have produced (`TorchNoise`) or computes each draw from its number alone (`CounterNoise`).

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <ATen/core/PhiloxRNGEngine.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <mutex>
#include <numbers>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

namespace detail {

template <class Source>
concept HasNormal = requires(Source& source, at::IntArrayRef shape, std::int64_t draw) {
  { source.normal(shape, draw) } -> std::convertible_to<at::Tensor>;
};

/// Validates a noise request. Returns the number of samples B.
inline std::int64_t noise_batch(at::IntArrayRef shape, std::int64_t draw) {
  require(!shape.empty(), "noise shape: expected [B, ...], found a scalar");
  for (const std::int64_t side : shape) {
    require(side >= 0, "noise shape: expected sizes >= 0, found {}", shape_text(shape));
  }
  require(draw >= 0, "noise draw: expected a number >= 0, found {}", draw);
  return shape.front();
}

}  // namespace detail

/// Something that yields standard normal noise.
///
///     at::Tensor normal(at::IntArrayRef shape, std::int64_t draw);   // fp32, CPU, [B, ...]
///
/// Laws (`ip2p::testing::check_noise`):
///  1. the result is an fp32 CPU tensor of exactly `shape`, finite, with mean 0 and variance 1; values, samples and
///     draws are independent of each other;
///  2. two sources constructed the same way give bit-identical noise for the same sequence of calls;
///  3. a copy continues from the original's position, and neither affects the other.
template <class Source>
concept NoiseSource = detail::HasNormal<Source>;

/// Stops compilation with one sentence unless `Source` is a `NoiseSource`.
template <class Source>
consteval void require_noise_source() {
  static_assert(detail::HasNormal<Source>,
                "ip2p: NoiseSource needs `at::Tensor normal(at::IntArrayRef shape, std::int64_t draw)`; "
                "see docs/reference/concepts.md#noisesource");
}

/// Skips draw `draw` of `shape`, leaving a source that replays a stream where it would be after that draw. Call it when
/// the draw comes from elsewhere, for example when initial latents are read from a file: without it, the first step
/// would get draw 0 instead of draw 1.
template <class Noise>
void discard_draw(Noise& noise, at::IntArrayRef shape, std::int64_t draw) {
  require_noise_source<Noise>();
  (void)noise.normal(shape, draw);
}

/// The stream of `torch.Generator("cpu").manual_seed(seed)`: draw k is bit-identical to the k-th `torch.randn` of that
/// shape, for any shape (torch fills tensors of fewer than 16 elements by a different algorithm).
///
/// With one seed the whole batch is drawn from one generator. With one seed per sample, each sample [1, ...] has its
/// own generator, as in diffusers with a list of generators, so a sample's noise does not depend on its neighbours. A
/// stream has no random access: the noise depends on the order of draws, and the draw number is only validated.
class TorchNoise {
 public:
  /// Its name for `AnyNoise`.
  static constexpr std::string_view name = "torch";

  /// One generator for the whole batch.
  explicit TorchNoise(std::uint64_t seed) : TorchNoise(std::vector<std::uint64_t>{seed}) {}

  /// One generator per sample (or, with a single seed, one for the whole batch). Throws `Error` for an empty list. As
  /// in torch, only the lower 32 bits of a seed count.
  explicit TorchNoise(const std::vector<std::uint64_t>& seeds) {
    require(!seeds.empty(), "TorchNoise: expected at least one seed, found none");
    for (const std::uint64_t seed : seeds) {
      generators_.push_back(at::make_generator<at::CPUGeneratorImpl>(seed));
    }
  }

  /// Continues the streams of existing CPU generators from their current state; the originals are not advanced. Throws
  /// `Error` for an empty list and for generators that are not on the CPU.
  explicit TorchNoise(const std::vector<at::Generator>& generators) : generators_(clones(generators)) {
    require(!generators_.empty(), "TorchNoise: expected at least one generator, found none");
  }

  /// One generator per sample, or one for the batch; how `AnyNoise` and the pipelines make it. \throws Error without
  ///   seeds, and for seeds above 2^32 - 1, which torch's generator does not tell from smaller ones
  static TorchNoise from_seeds(const std::vector<std::uint64_t>& seeds) {
    for (const std::uint64_t seed : seeds) {
      require(seed <= 0xffffffffU,
              "seed: expected at most 4294967295 with the noise 'torch', whose generator uses the lower 32 bits alone, "
              "found {}, which would be the same as {}; the noises 'counter' and 'cuda' tell such seeds apart",
              seed, seed & 0xffffffffU);
    }
    return TorchNoise(seeds);
  }

  TorchNoise(const TorchNoise& other) : generators_(clones(other.generators_)) {}
  TorchNoise(TorchNoise&&) noexcept = default;
  TorchNoise& operator=(TorchNoise other) noexcept {
    generators_.swap(other.generators_);
    return *this;
  }
  ~TorchNoise() = default;

  /// The next noise of the stream, fp32 [B, ...] on the CPU. Throws `Error` if there are several seeds and B differs
  /// from their number.
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    const std::int64_t batch = detail::noise_batch(shape, draw);
    const auto options = at::TensorOptions().dtype(at::kFloat).device(at::kCPU);
    if (generators_.size() == 1) return at::randn(shape, generators_.front(), options);

    require(batch == static_cast<std::int64_t>(generators_.size()),
            "TorchNoise: expected one seed or one for each of the {} samples, found {} seeds", batch,
            generators_.size());
    std::vector<std::int64_t> single(shape.begin(), shape.end());
    single.front() = 1;
    std::vector<at::Tensor> samples;
    samples.reserve(generators_.size());
    for (const at::Generator& generator : generators_) samples.push_back(at::randn(single, generator, options));
    return at::cat(samples);
  }

 private:
  static std::vector<at::Generator> clones(const std::vector<at::Generator>& generators) {
    std::vector<at::Generator> copies;
    copies.reserve(generators.size());
    for (at::Generator generator : generators) {
      require(generator.defined() && generator.device().is_cpu(), "TorchNoise: expected CPU generators");
      const std::scoped_lock lock(generator.mutex());
      copies.push_back(generator.clone());
    }
    return copies;
  }

  std::vector<at::Generator> generators_;
};

/// Noise that is a pure function of (seed, draw, sample): a sample gets the same noise on its own or in any batch, on
/// any device, and regardless of earlier draws.
///
/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) with key = seed and counter =
/// (element pair, sample, draw); each 128-bit block becomes two 53-bit uniforms, and the Box-Muller transform in double
/// precision turns these into the normal values of elements 2k and 2k + 1 in row-major order within the sample.
class CounterNoise {
 public:
  /// Its name for `AnyNoise`.
  static constexpr std::string_view name = "counter";

  /// Sample i of the batch gets the noise of (seed, draw, first_sample + i), so a run split into batches gives the same
  /// noise as one large batch.
  explicit CounterNoise(std::uint64_t seed, std::uint32_t first_sample = 0)
      : seeds_{seed}, first_sample_(first_sample) {}

  /// Sample i gets the noise of (seeds[i], draw, 0), the same as on its own with that seed. A list of one seed means a
  /// batch of one. Throws `Error` for an empty list.
  explicit CounterNoise(std::vector<std::uint64_t> seeds) : seeds_(std::move(seeds)), one_each_(true) {
    require(!seeds_.empty(), "CounterNoise: expected at least one seed, found none");
  }

  /// A single seed for the whole batch, or one per sample. Throws `Error` for an empty list.
  static CounterNoise from_seeds(std::vector<std::uint64_t> seeds) {
    return seeds.size() == 1 ? CounterNoise(seeds.front()) : CounterNoise(std::move(seeds));
  }

  /// Noise of draw `draw`, fp32 [B, ...] on the CPU. Throws `Error` if B differs from the length of the seed list, or
  /// if the draw or sample number exceeds 32 bits.
  [[nodiscard]] at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) const {
    constexpr std::int64_t limit = std::numeric_limits<std::uint32_t>::max();
    const std::int64_t batch = detail::noise_batch(shape, draw);
    require(!one_each_ || batch == static_cast<std::int64_t>(seeds_.size()),
            "CounterNoise: expected one seed for each of the {} samples, found {} seeds", batch, seeds_.size());
    require(draw <= limit, "noise draw: expected a number below 2^32, found {}", draw);
    require(batch <= limit - static_cast<std::int64_t>(first_sample_), "CounterNoise: sample {} + {} exceeds 32 bits",
            first_sample_, batch);

    at::Tensor noise = at::empty(shape, at::TensorOptions().dtype(at::kFloat).device(at::kCPU));
    const std::int64_t elements = batch == 0 ? 0 : noise.numel() / batch;
    auto* out = noise.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < batch; ++i, out += elements) {
      const std::uint64_t seed = one_each_ ? seeds_[static_cast<std::size_t>(i)] : seeds_.front();
      const std::uint64_t sample = one_each_ ? 0 : first_sample_ + static_cast<std::uint64_t>(i);
      fill(out, elements, at::philox_engine(seed, (static_cast<std::uint64_t>(draw) << 32) | sample));
    }
    return noise;
  }

 private:
  static void fill(float* out, std::int64_t elements, at::philox_engine engine) {
    // The first uniform is in (0, 1], so its logarithm is finite; the smallest, 2^-53, bounds the values by 8.6.
    const auto bits = [&engine] {
      const std::uint64_t high = engine();
      return ((high << 32) | engine()) >> 11;
    };
    for (std::int64_t k = 0; k < elements; k += 2) {
      const double radius = std::sqrt(-2.0 * std::log(static_cast<double>(bits() + 1) * 0x1p-53));
      const double angle = 2.0 * std::numbers::pi * (static_cast<double>(bits()) * 0x1p-53);
      out[k] = static_cast<float>(radius * std::cos(angle));
      if (k + 1 < elements) out[k + 1] = static_cast<float>(radius * std::sin(angle));
    }
  }

  std::vector<std::uint64_t> seeds_;
  std::uint32_t first_sample_ = 0;
  bool one_each_ = false;
};

}  // namespace ip2p
