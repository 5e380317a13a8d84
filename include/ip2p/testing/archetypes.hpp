#pragma once

/// \file
/// Archetypes: types that satisfy one concept and offer nothing else. A template that compiles with them requires no
/// more than its concept promises.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ip2p/attention/plain.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/filter/concepts.hpp"
#include "ip2p/guidance/concepts.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/schedule/concepts.hpp"
#include "ip2p/upsampling/concepts.hpp"

namespace ip2p::testing {

/// Minimal `NoiseSource`: neither copied nor moved.
class NoiseArchetype {
 public:
  /// \param seed of the numbers
  explicit NoiseArchetype(std::uint64_t seed) : noise_(seed) {}
  NoiseArchetype(const NoiseArchetype&) = delete;
  NoiseArchetype& operator=(const NoiseArchetype&) = delete;
  /// As `CounterNoise`.
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) { return noise_.normal(shape, draw); }

 private:
  CounterNoise noise_;
};

/// Minimal `Denoiser`: neither copied nor moved, called as an lvalue only.
class DenoiserArchetype {
 public:
  DenoiserArchetype() = default;
  DenoiserArchetype(const DenoiserArchetype&) = delete;
  DenoiserArchetype& operator=(const DenoiserArchetype&) = delete;
  /// The estimate for data of mean 0 and variance 1.
  at::Tensor operator()(const at::Tensor& x, const Step& step) & { return x.div(1.0 + step.sigma * step.sigma); }
};

/// Minimal `SchedulePolicy`: no default constructor, no assignment.
class ScheduleArchetype {
 public:
  /// \param sigma_max where runs begin, > 0
  explicit ScheduleArchetype(double sigma_max) : sigma_max_(sigma_max) {}
  ScheduleArchetype& operator=(const ScheduleArchetype&) = delete;
  ScheduleArchetype(const ScheduleArchetype&) = default;
  /// Evenly spaced. \throws Error for n < 1
  [[nodiscard]] std::vector<double> sigmas(std::int64_t n) const {
    detail::require_steps(n);
    std::vector<double> levels;
    for (std::int64_t i = 0; i <= n; ++i) {
      levels.push_back(sigma_max_ * static_cast<double>(n - i) / static_cast<double>(n));
    }
    return levels;
  }
  /// The noise level itself.
  [[nodiscard]] double sigma_to_t(double sigma) const { return sigma; }

 private:
  const double sigma_max_;
};

/// Minimal `SamplerPolicy`: no default for the hooks.
class SamplerArchetype {
 public:
  /// Takes a number only so as not to have a default constructor.
  explicit SamplerArchetype(int /*unused*/) {}
  SamplerArchetype(const SamplerArchetype&) = default;
  SamplerArchetype& operator=(const SamplerArchetype&) = delete;
  /// Euler steps.
  template <class Denoiser, class Noise>
  at::Tensor sample(Denoiser&& denoiser, at::Tensor x, std::span<const double> sigmas, Noise& /*rng*/,
                    const RunHooks& hooks) const {
    require_run(x, sigmas);
    for (const Step& step : steps_of(sigmas)) {
      hooks.check(step);
      x = euler_step(x, estimate_x0(denoiser, x, step), step.sigma, step.sigma_next);
      x = hooks.finish(step, x);
    }
    return x;
  }
};

/// Minimal `GuidancePolicy`: no weights, no default constructor, no assignment.
class GuidanceArchetype {
 public:
  /// Takes a number only so as not to have a default constructor.
  explicit GuidanceArchetype(int /*unused*/) {}
  GuidanceArchetype(const GuidanceArchetype&) = default;
  GuidanceArchetype& operator=(const GuidanceArchetype&) = delete;
  /// With the text, and without.
  static constexpr std::array<Branch, 2> branches{Branch{.text = true, .image = true},
                                                  Branch{.text = false, .image = false}};
  /// The fully conditioned branch: [2B,C,h,w] -> [B,C,h,w].
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& /*step*/) const {
    return detail::split_branches<2>(stacked)[0];
  }
};

/// Minimal `AttentionPolicy`: no `uniform_over_branches`, no default constructor, no assignment.
class AttentionArchetype {
 public:
  /// Takes a number only so as not to have a default constructor.
  explicit AttentionArchetype(int /*unused*/) {}
  AttentionArchetype(const AttentionArchetype&) = default;
  AttentionArchetype& operator=(const AttentionArchetype&) = delete;
  /// Plain attention.
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    return PlainAttention{}(site, q, k, v);
  }
};

/// Minimal `PairFilter`: declares no cost, no default constructor, no assignment.
class FilterArchetype {
 public:
  /// Takes a number only so as not to have a default constructor.
  explicit FilterArchetype(int /*unused*/) {}
  FilterArchetype(const FilterArchetype&) = default;
  FilterArchetype& operator=(const FilterArchetype&) = delete;
  /// Keeps pairs whose pictures are near to each other.
  Verdict operator()(const CandidatePair& pair) const { return at_least("images", pair.features.images(), 0.5); }
};

/// Minimal `UpsamplingPolicy`: says nothing about itself, no default constructor, no assignment.
class UpsamplingArchetype {
 public:
  /// Takes a number only so as not to have a default constructor.
  explicit UpsamplingArchetype(int /*unused*/) {}
  UpsamplingArchetype(const UpsamplingArchetype&) = default;
  UpsamplingArchetype& operator=(const UpsamplingArchetype&) = delete;
  /// Moves all colours by the edit's average change.
  Image operator()(const Image& photo, const ModelEdit& edit) const {
    const auto &before = edit.before.pixels, &after = edit.after.pixels;
    std::array<std::int64_t, 3> change{};
    for (std::size_t i = 0; i < after.size(); ++i) change[i % 3] += after[i] - before[i];
    Image edited = photo;
    for (std::size_t i = 0; i < edited.pixels.size(); ++i) {
      const auto value = photo.pixels[i] + 3 * change[i % 3] / static_cast<std::int64_t>(after.size());
      edited.pixels[i] = static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
    }
    return edited;
  }
};

static_assert(NoiseSource<NoiseArchetype> && Denoiser<DenoiserArchetype&> && SchedulePolicy<ScheduleArchetype> &&
              SamplerPolicy<SamplerArchetype> && GuidancePolicy<GuidanceArchetype> &&
              AttentionPolicy<AttentionArchetype> && PairFilter<FilterArchetype> &&
              UpsamplingPolicy<UpsamplingArchetype>);

}  // namespace ip2p::testing
