#pragma once

/// \file
/// A noise source chosen by name at run time, for code that handles user input.

#include <fmt/ranges.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/philox_noise.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// One of `Sources`, itself a `NoiseSource`. Each alternative has a `static constexpr std::string_view name` and a
/// static `from_seeds(std::vector<std::uint64_t>)`; to add your own, instantiate this with a longer list.
template <class... Sources>
class AnyNoiseOf {
 public:
  /// Any of the alternatives.
  template <class Source>
  requires(std::same_as<Source, Sources> || ...) AnyNoiseOf(Source source)
      : source_(std::move(source)) {  // NOLINT(google-explicit-constructor)
    (require_noise_source<Sources>(), ...);
  }

  /// The source called `name`. A single seed covers a batch of any size; several seeds mean one per sample. Throws
  /// `Error` for an unknown name (listing the known ones) and for an empty seed list.
  static AnyNoiseOf named(std::string_view name, const std::vector<std::uint64_t>& seeds) {
    std::vector<AnyNoiseOf> found;
    ((name == Sources::name ? found.push_back(Sources::from_seeds(seeds)) : void()), ...);
    require(!found.empty(), "noise: expected one of {}, found \"{}\"", fmt::join(names(), ", "), name);
    return std::move(found.front());
  }

  /// The names that `named` accepts.
  static constexpr std::array<std::string_view, sizeof...(Sources)> names() { return {Sources::name...}; }

  /// Name of the source held.
  [[nodiscard]] std::string_view name() const {
    return std::visit([](const auto& source) { return std::string_view(source.name); }, source_);
  }

  /// Noise from the source held, fp32 [B, ...] on the CPU.
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    return std::visit([&](auto& source) -> at::Tensor { return source.normal(shape, draw); }, source_);
  }

 private:
  std::variant<Sources...> source_;
};

/// The built-in sources: "torch" (the default; matches torch on a CPU), "cuda" (matches torch on a GPU) and "counter"
/// (a picture's noise does not depend on its batch).
using AnyNoise = AnyNoiseOf<TorchNoise, PhiloxNoise, CounterNoise>;

static_assert(NoiseSource<AnyNoise>);

}  // namespace ip2p
