#pragma once

// Whole runs of the references, repeated step by step.

#include <string>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "support/closed_form.hpp"
#include "support/golden.hpp"

namespace ip2p::testing {

/// Largest difference over all steps of a run between `states` of the reference and those of `sampler`, relative to the
/// largest latent before or after the step (the references form the result as a difference of those before it).
template <class Sampler, class Schedule>
double run_difference(const Sampler& sampler, const Schedule& schedule, PredictionType prediction,
                      const std::vector<double>& sigmas, std::uint64_t seed, const nlohmann::json& states,
                      const std::vector<std::int64_t>& shape) {
  TorchNoise noise(seed);
  NetworkDenoiser denoiser([](const at::Tensor& x, double t) { return closed_form_network(x, t); }, schedule,
                           AnyPrediction{prediction});
  double largest = 0.0;
  double size_before = 0.0;
  std::size_t steps = 0;
  RunHooks hooks;
  hooks.on_step = [&](const Step& at, const at::Tensor& latents) {
    const auto expected = golden_tensor(states.at(static_cast<std::size_t>(at.index)), shape);
    const double size = expected.abs().max().item<double>();
    largest = std::max(largest, largest_difference(latents, expected) / std::max(size, size_before));
    size_before = size;
    ++steps;
  };
  const at::Tensor start = noise.normal(shape, 0).mul(initial_sigma(schedule, sigmas));
  size_before = start.abs().max().item<double>();
  (void)sampler.sample(denoiser, start, sigmas, noise, hooks);
  REQUIRE(steps == states.size());
  return largest;
}

/// k-diffusion's own rounding, its fp32 runs against themselves in double, in the measure of `run_difference`: 3.8e-6 for
/// the runs of two steps, the first of which shrinks the latents 500-fold, and 4e-7 for the others.
inline constexpr double k_diffusion_rounding = 4e-6;

/// Calls `visit(run, prediction, sigmas, shape)` for every k-diffusion run of the sampler `name`.
template <class Visit>
std::size_t for_each_k_diffusion_run(const std::string& name, Visit visit) {
  const auto fixture = golden("sampling/fixtures/runs.json");
  const auto shape = fixture["shape"].get<std::vector<std::int64_t>>();
  std::size_t count = 0;
  for (const auto& run : fixture["runs"]) {
    if (run["sampler"] != name) continue;
    ++count;
    const auto prediction =
        run["prediction"] == "v_prediction" ? PredictionType::v_prediction : PredictionType::epsilon;
    INFO(run["prediction"] << ", seed " << run["seed"] << ", " << run["states"].size() << " steps");
    visit(run, prediction, run["sigmas"].get<std::vector<double>>(), shape);
  }
  return count;
}

/// Largest difference to diffusers' scheduler of the sampler `name`, from its configuration alone.
template <class Sampler>
double diffusers_difference(const std::string& name, const Sampler& sampler) {
  const auto fixture = golden("sampling/fixtures/runs.json");
  const auto shape = fixture["shape"].get<std::vector<std::int64_t>>();
  double largest = 0.0;
  std::size_t count = 0;
  for (const auto& run : fixture["diffusers"]) {
    if (run["sampler"] != name) continue;
    ++count;
    const auto config = scheduler_config_from_json(run["config"], "fixture");
    const auto schedule = LinearSigmas::from_config(config);
    largest = std::max(largest, run_difference(sampler, schedule, config.prediction,
                                               schedule.sigmas(run["n"].template get<std::int64_t>()),
                                               run["seed"].template get<std::uint64_t>(), run["states"], shape));
  }
  REQUIRE(count == 4);
  return largest;
}

}  // namespace ip2p::testing
