#pragma once

/// \file
/// The laws of `PredictionPolicy`.

#include <cmath>
#include <cstddef>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/testing/archetypes.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// Throws `Error` naming the first law of `PredictionPolicy` that `prediction` breaks, at noise levels from .02 to 100.
template <class Prediction>
void check_prediction(const Prediction& prediction) {
  require_prediction_policy<Prediction>();
  constexpr auto role = "PredictionPolicy";
  std::vector<double> sigmas;
  for (int i = 0; i <= 40; ++i) sigmas.push_back(0.02 * std::pow(5000.0, i / 40.0));
  const at::Tensor x0 = CounterNoise(1).normal({2, 4, 6, 5}, 0);
  const at::Tensor noise = CounterNoise(2).normal({2, 4, 6, 5}, 0);

  std::vector<Preconditioning> factors;
  for (const double sigma : sigmas) {
    const auto [c_in, c_skip, c_out] = prediction.preconditioning(sigma);
    factors.push_back({c_in, c_skip, c_out});
    expect_law(std::isfinite(c_in) && std::isfinite(c_skip) && std::isfinite(c_out), role, "factors are finite",
               "c_in {}, c_skip {}, c_out {} at sigma {}", c_in, c_skip, c_out, sigma);
    expect_law(c_in != 0.0, role, "the network sees the latents: c_in is not 0", "0 at sigma {}", sigma);
    expect_law(c_out != 0.0, role, "the estimate needs the network: c_out is not 0", "0 at sigma {}", sigma);

    // The training target, and the clean latents recovered from it as `NetworkDenoiser` does.
    const at::Tensor x = x0.add(noise, sigma);
    const at::Tensor target = x0.to(at::kDouble).sub(x.to(at::kDouble), c_skip).div(c_out).to(at::kFloat);
    NetworkDenoiser denoiser([&](const at::Tensor&, double) { return target; }, ScheduleArchetype(100.0), prediction);
    const at::Tensor found = denoiser(x, Step{.count = 1, .sigma = sigma});
    // The latents are fp32, so they come back only up to their own rounding.
    expect_close(found, x0, 1e-5 * (1.0 + sigma), role, "x0 comes back from the training target that is implied",
                 fmt::format("sigma {}", sigma));
  }
  const Prediction copy(prediction);
  for (std::size_t i = sigmas.size(); i-- > 0;) {
    const auto [c_in, c_skip, c_out] = copy.preconditioning(sigmas[i]);
    expect_law(c_in == factors[i].c_in && c_skip == factors[i].c_skip && c_out == factors[i].c_out, role,
               "factors are a function of sigma",
               "expected c_in {}, c_skip {}, c_out {} at sigma {}, found {}, {}, {} when asked again", factors[i].c_in,
               factors[i].c_skip, factors[i].c_out, sigmas[i], c_in, c_skip, c_out);
  }
}

/// As above, and checks that the policy's implied training target is the given one.
/// \param target (x0, noise, sigma) -> the network's training target for x0 + sigma * noise
template <class Prediction, class Target>
void check_prediction(const Prediction& prediction, Target&& target) {
  check_prediction(prediction);
  const at::Tensor x0 = CounterNoise(1).normal({2, 4, 6, 5}, 0).to(at::kDouble);
  const at::Tensor noise = CounterNoise(2).normal({2, 4, 6, 5}, 0).to(at::kDouble);
  for (const double sigma : {0.03, 0.5, 2.0, 14.6}) {
    const auto [c_in, c_skip, c_out] = prediction.preconditioning(sigma);
    const at::Tensor expected = target(x0, noise, sigma);
    expect_close(x0.sub(x0.add(noise, sigma), c_skip).div(c_out), expected, 1e-9, "PredictionPolicy",
                 "the training target is the one that is promised", fmt::format("sigma {}", sigma));
  }
}

}  // namespace ip2p::testing
