#pragma once

/// \file
/// A sampler chosen by name at run time, for code that handles user input.

#include <fmt/ranges.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "ip2p/sampling/concepts.hpp"
#include "ip2p/sampling/ddim.hpp"
#include "ip2p/sampling/ddpm.hpp"
#include "ip2p/sampling/dpm2.hpp"
#include "ip2p/sampling/dpm2_ancestral.hpp"
#include "ip2p/sampling/dpmpp_2m.hpp"
#include "ip2p/sampling/dpmpp_2m_sde.hpp"
#include "ip2p/sampling/dpmpp_2s_ancestral.hpp"
#include "ip2p/sampling/dpmpp_3m_sde.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/sampling/euler_ancestral.hpp"
#include "ip2p/sampling/heun.hpp"
#include "ip2p/sampling/lcm.hpp"
#include "ip2p/sampling/lms.hpp"
#include "ip2p/sampling/unipc.hpp"

namespace ip2p {

namespace detail {

/// Any noise source, by reference.
struct NoiseReference {
  std::function<at::Tensor(at::IntArrayRef shape, std::int64_t draw)> draw_normal;
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) { return draw_normal(shape, draw); }
};

}  // namespace detail

/// One of `Samplers`, itself a `SamplerPolicy`. Each alternative has a `static constexpr std::string_view name` and a
/// default constructor; to add your own, instantiate this with a longer list.
template <class... Samplers>
class AnySamplerOf {
  static_assert((require_sampler_policy<Samplers>(), ..., true));

 public:
  /// Any of the alternatives.
  template <class Sampler>
  requires(std::same_as<Sampler, Samplers> || ...) AnySamplerOf(Sampler sampler)
      : sampler_(std::move(sampler)) {}  // NOLINT(google-explicit-constructor)

  /// The sampler called `name`, with default parameters. Throws `Error` for an unknown name, listing the known ones.
  static AnySamplerOf named(std::string_view name) {
    std::vector<AnySamplerOf> found;
    ((name == Samplers::name ? found.push_back(Samplers{}) : void()), ...);
    require(!found.empty(), "sampler: expected one of {}, found \"{}\"", fmt::join(names(), ", "), name);
    return std::move(found.front());
  }

  /// The names that `named` accepts.
  static constexpr std::array<std::string_view, sizeof...(Samplers)> names() { return {Samplers::name...}; }

  /// Name of the sampler held.
  [[nodiscard]] std::string_view name() const {
    return std::visit([](const auto& sampler) { return std::string_view(sampler.name); }, sampler_);
  }

  /// That of the sampler held; nothing if it is not of Euler's family. \throws Error as that sampler
  [[nodiscard]] std::optional<EulerForm> euler_form(const Step& step) const {
    return std::visit(
        [&]<class Sampler>(const Sampler& sampler) -> std::optional<EulerForm> {
          if constexpr (detail::HasEulerForm<Sampler>) return sampler.euler_form(step);
          return std::nullopt;
        },
        sampler_);
  }

  /// As the sampler that is held: `x` [B,C,h,w] at noise level sigmas[0] -> latents at noise level 0. \throws Error,
  /// Cancelled as that sampler
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
                    const RunHooks& hooks = {}) const {
    require_denoiser<Denoiser>();
    require_noise_source<Noise>();
    // Type-erased, so that the samplers are compiled once instead of once per denoiser and noise source.
    const std::function<at::Tensor(const at::Tensor&, const Step&)> evaluate =
        [&](const at::Tensor& latents, const Step& step) -> at::Tensor { return denoiser(latents, step); };
    detail::NoiseReference noise{
        [&](at::IntArrayRef shape, std::int64_t draw) -> at::Tensor { return rng.normal(shape, draw); }};
    return run(evaluate, std::move(x), sigmas, noise, hooks);
  }

 private:
  // Never inlined: where the class is linked, the samplers would come along.
  [[gnu::noinline]] at::Tensor run(const std::function<at::Tensor(const at::Tensor&, const Step&)>& evaluate,
                                   at::Tensor x, std::span<const double> sigmas, detail::NoiseReference& noise,
                                   const RunHooks& hooks) const {
    return std::visit([&](const auto& sampler) { return sampler.sample(evaluate, std::move(x), sigmas, noise, hooks); },
                      sampler_);
  }

  std::variant<Samplers...> sampler_;
};

/// The built-in samplers. The first is the one used for the published results.
using AnySampler = AnySamplerOf<EulerAncestral, Euler, Heun, Dpm2, Dpm2Ancestral, Lms, DpmPlusPlus2M,
                                DpmPlusPlus2SAncestral, DpmPlusPlus2MSde, DpmPlusPlus3MSde, UniPc, Ddim, Ddpm, Lcm>;

static_assert(EulerFamilySampler<AnySampler>);

}  // namespace ip2p
