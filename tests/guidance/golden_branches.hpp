#pragma once

// The network of tests/parity/make_guidance_fixtures.py, branch by branch.

#include <ATen/ops/cat.h>

#include <span>
#include <vector>

#include "ip2p/core/branch.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/sampling/concepts.hpp"
#include "support/closed_form.hpp"
#include "support/golden.hpp"

namespace ip2p::testing {

/// Each branch has its own shift.
struct GoldenBranches {
  at::Tensor operator()(const at::Tensor& x, double t, const Step& /*step*/, std::span<const Branch> branches) const {
    std::vector<at::Tensor> parts;
    for (const Branch& branch : branches) {
      const double shift = branch.text ? 0.3 : branch.image ? 0.2 : 0.1;
      parts.push_back(closed_form_network(x.mul(1.0 + shift), t, static_cast<float>(shift)));
    }
    return at::cat(parts);
  }
};

/// Unit-variance start noise of a run in the fixture, in double as the reference computes.
inline at::Tensor golden_start(const nlohmann::json& run, const std::vector<std::int64_t>& shape) {
  TorchNoise noise(run["seed"].get<std::uint64_t>());
  return noise.normal(shape, 0).to(at::kDouble);
}

/// Largest difference from the states of a run, relative to the largest value of each state.
template <class Sampler, class Denoiser>
double golden_difference(const Sampler& sampler, Denoiser denoiser, const at::Tensor& start,
                         const std::vector<double>& sigmas, const nlohmann::json& states) {
  double largest = 0.0;
  std::size_t steps = 0;
  RunHooks hooks;
  hooks.on_step = [&](const Step& step, const at::Tensor& latents) {
    const auto expected = golden_tensor(states.at(static_cast<std::size_t>(step.index)), latents.sizes(), at::kDouble);
    largest = std::max(largest, largest_difference(latents, expected) / expected.abs().max().item<double>());
    ++steps;
  };
  CounterNoise unused(0);
  (void)sampler.sample(denoiser, start, sigmas, unused, hooks);
  REQUIRE(steps == states.size());
  return largest;
}

}  // namespace ip2p::testing
