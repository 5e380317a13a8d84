#pragma once

// Denoisers and noise sources that record how they are called.

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "ip2p/testing/check_sampler.hpp"
#include "support/catch.hpp"

namespace ip2p::testing {

/// Counts what is drawn.
struct CountingNoise {
  CounterNoise noise{1};
  std::vector<std::int64_t> draws;
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    draws.push_back(draw);
    return noise.normal(shape, draw);
  }
};

/// What a run asked for.
struct Questions {
  std::vector<double> sigmas;       ///< Noise levels of the evaluations, in order.
  std::vector<std::int64_t> steps;  ///< Steps to which they belong.
  std::vector<std::int64_t> draws;  ///< Draws of noise.
  at::Tensor result;
};

/// Runs `sampler` over `sigmas` with normally distributed data.
template <class Sampler>
Questions questions_of(const Sampler& sampler, const std::vector<double>& sigmas) {
  Questions asked;
  CountingNoise noise;
  const auto denoiser = [&](const at::Tensor& x, const Step& step) {
    asked.sigmas.push_back(step.sigma);
    asked.steps.push_back(step.index);
    return GaussianDenoiser{.mean = 0.4, .deviation = 0.7}(x, step);
  };
  asked.result = sampler.sample(denoiser, CounterNoise(2).normal({1, 4, 2, 2}, 0).mul(sigmas.front()), sigmas, noise);
  asked.draws = noise.draws;
  return asked;
}

/// Runs `sampler` for two steps, for what it throws.
template <class Sampler>
void run_twice(const Sampler& sampler) {
  (void)questions_of(sampler, test_sigmas(2));
}

/// Mean and deviation of 65,536 values that `sampler` makes over `sigmas` from data N(mean, deviation^2).
template <class Sampler, class Denoiser = GaussianDenoiser>
std::pair<double, double> moments(const Sampler& sampler, const std::vector<double>& sigmas,
                                  Denoiser denoiser = {.mean = 0.4, .deviation = 0.7}) {
  CounterNoise noise(3);
  // Noisy data also has the variance of the data.
  const double spread = std::sqrt(sigmas.front() * sigmas.front() + denoiser.deviation * denoiser.deviation);
  const at::Tensor start = CounterNoise(4).normal({1, 4, 128, 128}, 0).mul(spread).add(denoiser.mean);
  const at::Tensor result = sampler.sample(denoiser, start, sigmas, noise);
  return {result.mean().template item<double>(), result.std().template item<double>()};
}

}  // namespace ip2p::testing
