#pragma once

/// \file
/// The laws of `SamplerPolicy`.

#include <ATen/ops/cat.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <stop_token>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/testing/archetypes.hpp"
#include "ip2p/testing/denoisers.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Noise levels of n steps, geometric from 14.6 to .03, then 0: the range of Stable Diffusion.
inline std::vector<double> test_sigmas(std::int64_t n) {
  std::vector<double> sigmas;
  for (std::int64_t i = 0; i < n; ++i) {
    sigmas.push_back(14.6 * std::pow(0.03 / 14.6, n == 1 ? 0.0 : static_cast<double>(i) / static_cast<double>(n - 1)));
  }
  sigmas.push_back(0.0);
  return sigmas;
}

/// What `check_sampler` needs to know about a sampler.
struct SamplerCheck {
  /// Whether, for data that is a single point, a step ends exactly at the noise level `sigma_next`. False for a sampler
  /// that adds a different amount of noise by design (`s_noise` other than 1, `DdpmVariance::fixed_large`).
  bool keeps_noise_level = true;
};

/// `CounterNoise` that records which draws were requested.
struct NotingNoise {
  CounterNoise noise;  ///< Where the numbers come from.
  std::vector<std::int64_t> draws = {};

  /// As `CounterNoise`, noted in `draws`.
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    draws.push_back(draw);
    return noise.normal(shape, draw);
  }
};

/// Throws `Error` naming the first law of `SamplerPolicy` that `sampler` breaks.
template <class Sampler>
void check_sampler(const Sampler& sampler, const SamplerCheck& check = {}) {
  require_sampler_policy<Sampler>();
  constexpr auto role = "SamplerPolicy";
  const std::vector<std::int64_t> shape{2, 4, 6, 5};
  const std::vector<double> seven = test_sigmas(7);
  const auto level = [&](std::int64_t i) { return i >= 0 && i < 8 ? seven[static_cast<std::size_t>(i)] : NAN; };
  const at::Tensor start = CounterNoise(11).normal(shape, 0).mul(seven.front());
  // Elementwise and nonlinear, to detect both reordered samples and wrong noise levels.
  const auto bend = [](const at::Tensor& x, const Step& step) { return x.div(1.0 + step.sigma).tanh(); };

  for (const std::int64_t n : {1, 2, 3, 7, 20}) {
    const std::vector<double> sigmas = test_sigmas(n);
    const at::Tensor point = CounterNoise(5).normal(shape, 0);
    PointMassDenoiser denoiser(point);
    CounterNoise noise(3);
    const at::Tensor x = CounterNoise(4).normal(shape, 0).mul(sigmas.front()).add(point);
    const at::Tensor result = sampler.sample(denoiser, x, sigmas, noise, RunHooks{});
    expect_close(result, point, 1e-4, role, "exact for a point mass", fmt::format("after {} steps", n));
  }

  const auto run = [&](const at::Tensor& x, auto noise) {
    return sampler.sample(bend, x, std::span<const double>(seven), noise, RunHooks{});
  };
  const at::Tensor kept = start.clone();
  const at::Tensor result = run(start, TorchNoise(9));
  expect_same_bits(start, kept, role, "the argument x is not changed");
  expect_same_bits(run(start, TorchNoise(9)), result, role, "equal noise gives equal bits");
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const auto found = run(start.to(dtype), TorchNoise(9)).scalar_type();
    expect_law(found == dtype, role, "the dtype of x is kept", "{} became {}", c10::toString(dtype),
               c10::toString(found));
  }

  const at::Tensor batch = run(start, CounterNoise(std::vector<std::uint64_t>{21, 22}));
  const at::Tensor singles = at::cat({run(start.narrow(0, 0, 1), CounterNoise(std::vector<std::uint64_t>{21})),
                                      run(start.narrow(0, 1, 1), CounterNoise(std::vector<std::uint64_t>{22}))});
  expect_close(batch, singles, 1e-5, role, "a batch equals its samples run one by one");

  if constexpr (EulerFamilySampler<Sampler>) {
    std::vector<EulerForm> forms;
    for (const auto& step : steps_of(seven)) {
      if (const auto form = sampler.euler_form(step)) forms.push_back(*form);
    }
    if (forms.size() == 7) {
      at::Tensor x = start;
      TorchNoise noise(9);
      for (const auto& step : steps_of(seven)) {
        const auto [down, up] = forms[static_cast<std::size_t>(step.index)];
        x = euler_step(x, bend(x, step), step.sigma, down);
        if (up > 0.0) x = x.add(step_noise(noise, x, step), up);
      }
      expect_close(x, result, 1e-5, role, "steps are those of euler_form");
    }
  }

  std::vector<std::int64_t> seen;
  at::Tensor last;
  RunHooks hooks;
  hooks.on_step = [&](const Step& step, const at::Tensor& latents) {
    expect_law(step.count == 7 && step.sigma == level(step.index) && step.sigma_next == level(step.index + 1), role,
               "steps carry the run's noise levels", "expected {} to {} in step {} of 7, found {} to {} of {}",
               level(step.index), level(step.index + 1), step.index, step.sigma, step.sigma_next, step.count);
    seen.push_back(step.index);
    last = latents;
  };
  {
    TorchNoise noise(9);
    const at::Tensor watched = sampler.sample(bend, start, seven, noise, hooks);
    expect_law(seen == std::vector<std::int64_t>{0, 1, 2, 3, 4, 5, 6}, role,
               "on_step is called once per step, in order", "expected calls for 0, 1, 2, 3, 4, 5, 6, found {}",
               fmt::join(seen, ", "));
    expect_same_bits(watched, result, role, "watching changes nothing");
    expect_same_bits(last, result, role, "on_step sees the latents of its step", "those of the last step");
  }

  {
    RunHooks revising;
    const at::Tensor put = CounterNoise(6).normal(shape, 0);
    revising.revise = [&](const Step& step, const at::Tensor& latents) { return step.index == 6 ? put : latents; };
    TorchNoise noise(9);
    expect_same_bits(sampler.sample(bend, start, seven, noise, revising), put, role,
                     "the run goes on from what revise returns", "latents put in the last step");
  }

  {
    // Latents on the way to a point are that point plus noise, whose magnitude reveals their noise level.
    const std::vector<std::int64_t> wide{2, 4, 32, 32};
    const at::Tensor point = CounterNoise(5).normal(wide, 0);
    std::int64_t index = 0;
    double first = 0.0;  // ratio of actual to reported noise in a step's first evaluation
    const auto looking = [&](const at::Tensor& x, const Step& step) {
      expect_law(step.index == index && step.count == 7 && step.sigma_next == level(index + 1), role,
                 "the denoiser is told the step", "expected step {} of 7 to {}, found {} of {} to {}", index,
                 level(index + 1), step.index, step.count, step.sigma_next);
      const double found = std::sqrt(x.sub(point).to(at::kDouble).square().mean().template item<double>()) / step.sigma;
      constexpr auto law = "the denoiser is told the noise level of what it is shown";
      if (first == 0.0) {
        first = found;
        expect_law(!check.keeps_noise_level || std::abs(found - 1.0) < 0.1, role, law, "told {}, shown {} in step {}",
                   step.sigma, found * step.sigma, index);
      }
      // Further evaluations of a step have the same ratio as the first, whatever the sampler adds between steps.
      expect_law(std::abs(found / first - 1.0) < 0.1, role, law, "told {}, shown {} in another evaluation of step {}",
                 step.sigma, found / first * step.sigma, index);
      return point.clone();
    };
    NotingNoise noise{CounterNoise(3)};
    RunHooks counting;
    counting.on_step = [&](const Step& step, const at::Tensor&) {
      expect_law(noise.draws.empty() || (noise.draws.size() == 1 && noise.draws.front() == index + 1), role,
                 "step i adds draw i + 1 of the noise, asked for once",
                 "step {} asked for draw {}, expected {} or none", step.index, fmt::join(noise.draws, ", "), index + 1);
      noise.draws.clear();
      first = 0.0;
      ++index;
    };
    (void)sampler.sample(looking, CounterNoise(4).normal(wide, 0).mul(seven.front()).add(point), seven, noise,
                         counting);
  }

  std::stop_source stop;
  std::int64_t after_stop = 0;
  hooks.stop = stop.get_token();
  hooks.on_step = [&](const Step& step, const at::Tensor&) {
    if (step.index == 2) stop.request_stop();
  };
  const auto counted = [&](const at::Tensor& x, const Step& step) {
    after_stop += stop.stop_requested() ? 1 : 0;
    return bend(x, step);
  };
  expect_throws<Cancelled>(
      [&] {
        TorchNoise noise(9);
        (void)sampler.sample(counted, start, seven, noise, hooks);
      },
      role, "a requested stop throws Cancelled", "a stop in step 3 of 7");
  expect_law(after_stop == 0, role, "a stopped run evaluates nothing more", "found {} evaluations", after_stop);

  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinite = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<double>> unsound{
      {},           {0.0},        {1.0},         {nan, 0.0}, {infinite, 0.0}, {-1., 0.},     {2., 1.},
      {1., 2., 0.}, {1., 1., 0.}, {1., -.5, 0.}, {0., 0.},   {2., nan, 0.},   {2., 0., 0.0}, {2.0, 1.0, -0.5}};
  for (const auto& sigmas : unsound) {
    expect_throws(
        [&] {
          TorchNoise noise(9);
          (void)sampler.sample(bend, start, sigmas, noise, RunHooks{});
        },
        role, "unsound noise levels are refused", fmt::format("[{}]", fmt::join(sigmas, ", ")));
  }
  expect_throws(
      [&] {
        TorchNoise noise(9);
        (void)sampler.sample([](const at::Tensor& x, const Step&) { return x.narrow(0, 0, 1); }, start, seven, noise,
                             RunHooks{});
      },
      role, "a denoiser that answers another shape is refused", "one sample of two");

  // Compiles only if the sampler requires no more of its arguments than the concepts promise.
  DenoiserArchetype denoiser;
  NoiseArchetype noise(1);
  (void)sampler.sample(denoiser, start, seven, noise, RunHooks{});
}

}  // namespace ip2p::testing
