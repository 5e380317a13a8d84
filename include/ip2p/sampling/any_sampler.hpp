#pragma once

/// \file
/// Choice of a sampler at run time, by name; for the edge of a program.

#include <fmt/ranges.h>

#include <array>
#include <concepts>
#include <span>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"

namespace ip2p {

/// One of `Samplers`, itself a `SamplerPolicy`. Each alternative has a `static constexpr std::string_view name` and a
/// default constructor; a program adds its own by naming a longer list.
template <SamplerPolicy... Samplers>
class AnySamplerOf {
 public:
  /// Any of the alternatives.
  template <class Sampler>
  requires(std::same_as<Sampler, Samplers> || ...) AnySamplerOf(Sampler sampler)
      : sampler_(std::move(sampler)) {}  // NOLINT(google-explicit-constructor)

  /// The sampler called `name`, with its default parameters. Throws `Error` that lists the known names.
  static AnySamplerOf named(std::string_view name) {
    std::vector<AnySamplerOf> found;
    ((name == Samplers::name ? found.push_back(Samplers{}) : void()), ...);
    require(!found.empty(), "sampler: expected one of {}, found \"{}\"", fmt::join(names(), ", "), name);
    return std::move(found.front());
  }

  /// The names that `named` knows.
  static constexpr std::array<std::string_view, sizeof...(Samplers)> names() { return {Samplers::name...}; }

  /// The alternative's own name.
  [[nodiscard]] std::string_view name() const {
    return std::visit([](const auto& sampler) { return std::string_view(sampler.name); }, sampler_);
  }

  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    return std::visit([&](const auto& sampler) { return sampler.sample(denoiser, std::move(x), sigmas, rng, hooks); },
                      sampler_);
  }

 private:
  std::variant<Samplers...> sampler_;
};

/// The samplers that ship, by name: euler-ancestral (published), euler.
using AnySampler = AnySamplerOf<EulerAncestral, Euler>;

static_assert(SamplerPolicy<AnySampler>);

}  // namespace ip2p
