#pragma once

// Whole runs of the references, reproduced step by step.

#include <string>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/sampling/churn.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "support/closed_form.hpp"
#include "support/golden.hpp"

namespace ip2p::testing {

/// Largest difference over all steps of a run between `states` of the reference and those of `sampler`, relative to the
/// largest latent before or after the step (the references form the result as a difference of those before it). States
/// that the reference does not expose are null.
template <class Sampler, class Denoiser, class Noise>
double states_difference(const Sampler& sampler, Denoiser& denoiser, const at::Tensor& start,
                         const std::vector<double>& sigmas, Noise& noise, const nlohmann::json& states) {
  double largest = 0.0;
  double size_before = start.abs().max().template item<double>();
  std::size_t steps = 0;
  RunHooks hooks;
  hooks.on_step = [&](const Step& step, const at::Tensor& latents) {
    ++steps;
    const auto& state = states.at(static_cast<std::size_t>(step.index));
    const double size = latents.abs().max().item<double>();
    if (!state.is_null()) {
      const auto expected = golden_tensor(state, latents.sizes(), latents.scalar_type());
      largest = std::max(largest, largest_difference(latents, expected) / std::max(size, size_before));
    }
    size_before = size;
  };
  (void)sampler.sample(denoiser, start, sigmas, noise, hooks);
  REQUIRE(steps == states.size());
  return largest;
}

/// `states_difference` over the network in closed form, in fp32.
template <class Sampler, class Schedule>
double run_difference(const Sampler& sampler, const Schedule& schedule, PredictionType prediction,
                      const std::vector<double>& sigmas, std::uint64_t seed, const nlohmann::json& states,
                      const std::vector<std::int64_t>& shape) {
  TorchNoise noise(seed);
  NetworkDenoiser denoiser([](const at::Tensor& x, double t) { return closed_form_network(x, t); }, schedule,
                           AnyPrediction{prediction});
  const at::Tensor start = noise.normal(shape, 0).mul(initial_sigma(schedule, sigmas));
  return states_difference(sampler, denoiser, start, sigmas, noise, states);
}

/// k-diffusion's own rounding, as `run_difference` of its runs in fp32 and in double: 3.8e-6 for the runs of two steps,
/// the first of which shrinks the latents 500-fold, and 4e-7 for the others.
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

/// Largest difference from diffusers' scheduler for the sampler `name`, set up from its configuration alone.
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

/// Draw k is the k-th noise of torch's stream, whatever was drawn before, because some references draw noise that they
/// do not use.
struct IndexedTorchNoise {
  std::uint64_t seed;
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) const {
    TorchNoise stream(seed);
    for (std::int64_t skipped = 0; skipped < draw; ++skipped) (void)stream.normal(shape, skipped);
    return stream.normal(shape, draw);
  }
};

/// The churn of a run of the reference.
inline Churn churn_of(const nlohmann::json& parameters) {
  const Churn none;
  return {.s_churn = parameters.value("s_churn", none.s_churn),
          .s_tmin = parameters.value("s_tmin", none.s_tmin),
          .s_tmax = parameters.value("s_tmax", none.s_tmax),
          .s_noise = parameters.value("s_noise", none.s_noise)};
}

/// Largest `states_difference` from the `count` runs of `reference` ("k_diffusion", computed in double, or "diffusers",
/// with coefficients in fp32) with the sampler `name`, ours in double; `make(parameters)` makes the sampler.
template <class Make>
double solver_difference(const std::string& reference, const std::string& name, std::size_t count, Make make) {
  const auto fixture = golden("sampling/fixtures/solvers.json");
  const auto shape = fixture["shape"].get<std::vector<std::int64_t>>();
  double largest = 0.0;
  std::size_t found = 0;
  for (const auto& run : fixture[reference]) {
    if (run["sampler"] != name) continue;
    ++found;
    INFO(reference << " " << name << " " << run["parameters"] << ", " << run["states"].size() << " steps");
    const auto sigmas = run["sigmas"].get<std::vector<double>>();
    IndexedTorchNoise noise{fixture["seed"].get<std::uint64_t>()};
    const at::Tensor start = noise.normal(shape, 0).to(at::kDouble).mul(sigmas.front());
    const double difference =
        states_difference(make(run["parameters"]), closed_form_denoiser, start, sigmas, noise, run["states"]);
    CHECK(difference < (reference == "diffusers" ? 1e-5 : 1e-10));
    largest = std::max(largest, difference);
  }
  REQUIRE(found == count);
  return largest;
}

/// Largest `run_difference` from the `count` runs of diffusers' scheduler `name` over variance-preserving latents, ours
/// with `make_schedule(config)`, from its configuration alone; `make(run, schedule)` makes the sampler.
template <class MakeSchedule, class Make>
double preserving_difference(const std::string& name, std::size_t count, MakeSchedule make_schedule, Make make) {
  const auto fixture = golden("sampling/fixtures/solvers.json");
  const auto shape = fixture["shape"].get<std::vector<std::int64_t>>();
  double largest = 0.0;
  std::size_t found = 0;
  for (const auto& run : fixture["preserving"]) {
    if (run["sampler"] != name) continue;
    ++found;
    const auto config = scheduler_config_from_json(run["config"], "fixture");
    const auto schedule = make_schedule(config);
    largest = std::max(largest, run_difference(make(run, schedule), schedule, config.prediction,
                                               schedule.sigmas(run["n"].get<std::int64_t>()),
                                               run["seed"].get<std::uint64_t>(), run["states"], shape));
  }
  REQUIRE(found == count);
  return largest;
}

}  // namespace ip2p::testing
