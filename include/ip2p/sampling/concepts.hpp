#pragma once

/// \file
/// Contract of this folder: a denoiser estimates clean latents, and a sampler uses it to walk down the noise levels.
///
/// Skeleton for your own sampler:
///
///     struct Jump {
///       template <class Denoiser, class Noise>
///       at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& rng,
///                         const ip2p::RunHooks& hooks = {}) const {
///         ip2p::require_denoiser<Denoiser>();
///         ip2p::require_noise_source<Noise>();
///         ip2p::require_run(x, sigmas);
///         for (const ip2p::Step& step : ip2p::steps_of(sigmas)) {
///           hooks.check(step);
///           const at::Tensor x0 = ip2p::estimate_x0(denoiser, x, step);
///           x = ...;                                                // from step.sigma to step.sigma_next
///           x = hooks.finish(step, x);
///         }
///         return x;
///       }
///     };
///     static_assert(ip2p::SamplerPolicy<Jump>);                     // then: ip2p::testing::check_sampler(...)

#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/progress.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// A step of Euler's method: along the straight line from (step.sigma, x) towards the estimate (0, x0) to the noise
/// level `down`, then noise of standard deviation `up`, draw step.index + 1.
struct EulerForm {
  double down = 0.0;  ///< Noise level that the deterministic part goes to.
  double up = 0.0;    ///< Standard deviation of the noise added there; 0: none is drawn.
};

namespace detail {

template <class Callable>
concept Denoises = requires(Callable& denoiser, const at::Tensor& x, const Step& step) {
  { denoiser(x, step) } -> std::convertible_to<at::Tensor>;
};

// Never defined: argument types with which `SamplerPolicy` checks that `sample` can be called.
struct SomeDenoiser {
  at::Tensor operator()(const at::Tensor& x, const Step& step) const;
};
struct SomeNoise {
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw);
};

template <class Policy>
concept HasSample = requires(const Policy& sampler, SomeDenoiser& denoiser, at::Tensor x,
                             std::span<const double> sigmas, SomeNoise& rng, const RunHooks& hooks) {
  { sampler.sample(denoiser, x, sigmas, rng, hooks) } -> std::same_as<at::Tensor>;
};

template <class Policy>
concept HasEulerForm = requires(const Policy& sampler, const Step& step) {
  { sampler.euler_form(step) } -> std::same_as<std::optional<EulerForm>>;
};

}  // namespace detail

/// Estimates the clean latents x0 from noisy ones.
///
///     at::Tensor operator()(const at::Tensor& x, const Step& step);   // x [B,C,h,w] at noise level step.sigma -> x0
///
/// Laws: the result has the shape and dtype of x; x is not modified; equal arguments give bit-identical results.
template <class Callable>
concept Denoiser = detail::Denoises<std::remove_reference_t<Callable>>;

/// A numerical solver of the reverse diffusion.
///
///     at::Tensor sample(auto&& denoiser, at::Tensor x, std::span<const double> sigmas, NoiseSource auto& rng,
///                       const RunHooks& hooks = {}) const;
///
/// `x` [B,C,h,w] enters at noise level sigmas[0] and leaves at sigmas.back() = 0.
///
/// Laws (`ip2p::testing::check_sampler`):
///  1. exact for a point mass: with a denoiser that always returns c, the result is c;
///  2. equal noise sources give bit-identical results, and the argument x is not modified in place;
///  3. each step ends with `hooks.finish`, and the run continues from what it returns; a requested stop throws
///     `Cancelled` before the next evaluation;
///  4. noise levels that are not finite, not strictly decreasing or do not end in 0 throw `Error`;
///  5. a batch gives the same result as its samples run one by one, provided that the noise source does;
///  6. the denoiser is always given the step and the noise level of its input, including in later evaluations of the
///     same step (`evaluated_at`); step i adds draw i + 1 of the noise (`step_noise`) and requests it only once.
template <class Policy>
concept SamplerPolicy = std::copy_constructible<Policy> && detail::HasSample<Policy>;

/// Refinement: a sampler of Euler's family, which evaluates once a step and is linear in x, x0 and noise. A pipeline
/// may then take a step together with guidance and the scaling of the next input, in one pass (`Kernels::guided_step`).
///
///     std::optional<EulerForm> euler_form(const Step& step) const;   // nothing: not such a step, as configured
///
/// Law (`ip2p::testing::check_sampler`): if every step of a run has such a form, `sample` takes exactly those steps, up
/// to rounding. \throws Error for parameters out of range, as `sample`
template <class Policy>
concept EulerFamilySampler = SamplerPolicy<Policy> && detail::HasEulerForm<Policy>;

/// Fails to compile, with a one-sentence message, unless `Callable` is a `Denoiser`.
template <class Callable>
consteval void require_denoiser() {
  static_assert(Denoiser<Callable>,
                "ip2p: Denoiser needs `at::Tensor operator()(const at::Tensor& x, const Step& step)`; "
                "see docs/reference/concepts.md#denoiser");
}

/// Fails to compile, with a one-sentence message, unless `Policy` is a `SamplerPolicy`.
template <class Policy>
consteval void require_sampler_policy() {
  static_assert(std::copy_constructible<Policy>,
                "ip2p: SamplerPolicy must be copyable; see docs/reference/concepts.md#samplerpolicy");
  static_assert(detail::HasSample<Policy>,
                "ip2p: SamplerPolicy needs `at::Tensor sample(auto&& denoiser, at::Tensor x, std::span<const double> "
                "sigmas, auto& rng, const RunHooks& hooks) const`; see docs/reference/concepts.md#samplerpolicy");
}

/// Throws `Error` unless `sigmas` are valid: at least two noise levels, finite, strictly decreasing, the last 0.
inline void require_sigmas(std::span<const double> sigmas) {
  require(sigmas.size() >= 2, "sigmas: expected at least 2 noise levels (one step), found {}", sigmas.size());
  for (std::size_t i = 0; i < sigmas.size(); ++i) {
    require(std::isfinite(sigmas[i]) && sigmas[i] >= 0.0, "sigmas[{}]: expected a finite value >= 0, found {}", i,
            sigmas[i]);
    require(i == 0 || sigmas[i] < sigmas[i - 1], "sigmas[{}]: expected less than the previous {}, found {}", i,
            sigmas[i == 0 ? 0 : i - 1], sigmas[i]);
  }
  require(sigmas.back() == 0.0, "sigmas: expected the last noise level to be 0, found {}", sigmas.back());
}

/// Throws `Error` unless x holds floating-point latents [B, ...] and `sigmas` are valid noise levels.
inline void require_run(const at::Tensor& x, std::span<const double> sigmas) {
  require(x.defined(), "latents: expected a tensor, found an undefined one");
  require(x.dim() >= 1 && x.is_floating_point(), "latents: expected floating-point [B, ...], found {} {}",
          c10::toString(x.scalar_type()), shape_text(x.sizes()));
  require_sigmas(sigmas);
}

/// Throws `Error` unless the parameter `name` of `sampler` is finite and at least 0.
inline void require_not_negative(std::string_view sampler, std::string_view name, double value) {
  require(std::isfinite(value) && value >= 0.0, "{}: expected {} >= 0, found {}", sampler, name, value);
}

/// The steps of a run over `sigmas`: step i goes from sigmas[i] to sigmas[i + 1].
inline std::vector<Step> steps_of(std::span<const double> sigmas) {
  std::vector<Step> steps;
  const auto count = static_cast<std::int64_t>(sigmas.size()) - 1;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto k = static_cast<std::size_t>(i);
    steps.push_back({.index = i, .count = count, .sigma = sigmas[k], .sigma_next = sigmas[k + 1]});
  }
  return steps;
}

/// Evaluates the denoiser. Throws `Error` unless the estimate has the shape and dtype of x.
template <class Callable>
at::Tensor estimate_x0(Callable& denoiser, const at::Tensor& x, const Step& step) {
  at::Tensor x0 = denoiser(x, step);
  require(x0.defined() && x0.sizes() == x.sizes() && x0.scalar_type() == x.scalar_type(),
          "denoiser: expected an estimate of {} {}, found {}", c10::toString(x.scalar_type()), shape_text(x.sizes()),
          x0.defined() ? fmt::format("{} {}", c10::toString(x0.scalar_type()), shape_text(x0.sizes())) : "no tensor");
  return x0;
}

/// The noise that `step` adds: draw step.index + 1 of the source, in the dtype and on the device of x.
template <class Noise>
at::Tensor step_noise(Noise& rng, const at::Tensor& x, const Step& step) {
  return rng.normal(x.sizes(), step.index + 1).to(x.options());
}

/// `step` with its noise level replaced by `sigma`, for samplers that evaluate the denoiser several times per step.
inline Step evaluated_at(Step step, double sigma) {
  step.sigma = sigma;
  return step;
}

/// dx/dsigma = (x - x0) / sigma, the right-hand side of the probability-flow ODE (Karras et al. 2022).
inline at::Tensor ode_derivative(const at::Tensor& x, const at::Tensor& x0, double sigma) {
  return x.sub(x0).div(sigma);
}

/// x + (x - x0) / sigma * (to - sigma): follows the straight line from (sigma, x) towards (0, x0) to noise level `to`.
/// For to = 0 it returns x0 itself, without rounding error.
inline at::Tensor euler_step(const at::Tensor& x, const at::Tensor& x0, double sigma, double to) {
  if (to == 0.0) return x0;
  return x.add(ode_derivative(x, x0, sigma), to - sigma);
}

}  // namespace ip2p
