#include "ip2p/guidance/cfg_plus_plus.hpp"

#include "guidance/golden_branches.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/guided_denoiser.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/guidance/scheduled.hpp"
#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/sampling/ddim.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/sampling/heun.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/testing/check_guidance.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

static_assert(LinearGuidancePolicy<CfgPlusPlus<TextGuidance>>);

TEST_CASE("CfgPlusPlus keeps the laws of guidance", "[guidance]") {
  testing::check_guidance(CfgPlusPlus(TextGuidance{.text_scale = 0.6}));
  testing::check_guidance(CfgPlusPlus(DualGuidance{.image_scale = 0.5, .text_scale = 0.8}, 0.005));
  testing::check_guidance(CfgPlusPlus(Scheduled([](const Step& step) {
    return LimitedInterval{TextGuidance{.text_scale = step.progress()}, 2.0, 4.0};
  })));
}

TEST_CASE("CfgPlusPlus over Ddim equals the paper's update of variance-preserving latents", "[guidance]") {
  const auto fixture = testing::golden("guidance/fixtures/cfg_plus_plus.json");
  const auto shape = fixture["shape"].get<std::vector<std::int64_t>>();
  REQUIRE(fixture["runs"].size() == 4);
  for (const auto& run : fixture["runs"]) {
    INFO("scale " << run["scale"] << ", " << run["n"] << " steps");
    auto schedule = LinearSigmas::from_config(scheduler_config_from_json(run["config"], "fixture"));
    schedule.unit_variance_start = true;
    const double final_sigma = run["config"]["set_alpha_to_one"] ? 0.0 : schedule.training.sigma_min();
    const auto sigmas = schedule.sigmas(run["n"].get<std::int64_t>());
    const auto start = testing::golden_start(run, shape).mul(initial_sigma(schedule, sigmas));
    const CfgPlusPlus guidance(TextGuidance{.text_scale = run["scale"].get<double>()}, final_sigma);
    // The reference's noise levels are fp32.
    CHECK(testing::golden_difference(Ddim{.final_sigma = final_sigma},
                                     guided_denoiser(testing::GoldenBranches{}, guidance, schedule, EpsPrediction{}),
                                     start, sigmas, run["states"]) < 2e-6);
  }
}

TEST_CASE("An Euler step with CfgPlusPlus goes to the base's estimate plus the unconditional noise", "[guidance]") {
  const DualGuidance base{.image_scale = 0.4, .text_scale = 0.7};
  const at::Tensor x = CounterNoise(1).normal({2, 4, 3, 3}, 0).to(at::kDouble);
  const Step step{.index = 2, .count = 5, .sigma = 3.0, .sigma_next = 1.2};
  const at::Tensor estimates = CounterNoise(2).normal({6, 4, 3, 3}, 0).to(at::kDouble);
  const at::Tensor null = estimates.narrow(0, 4, 2);
  const at::Tensor found = euler_step(x, CfgPlusPlus(base).combine(estimates, step), step.sigma, step.sigma_next);
  const at::Tensor expected = base.combine(estimates, step).add(x.sub(null).div(step.sigma), step.sigma_next);
  CHECK(testing::close(found, expected, 1e-12));
}

TEST_CASE("CfgPlusPlus refuses a sampler that evaluates at the end of the step", "[guidance]") {
  const LogLinearSigmas schedule;
  CounterNoise noise(1);
  auto denoiser = guided_denoiser(testing::GoldenBranches{}, CfgPlusPlus(TextGuidance{.text_scale = 0.6}), schedule,
                                  EpsPrediction{});
  const auto sigmas = schedule.sigmas(3);
  const at::Tensor start = noise.normal({1, 4, 2, 2}, 0).mul(sigmas.front());
  CHECK_THROWS_WITH(Heun{}.sample(denoiser, start, sigmas, noise),
                    Contains("CfgPlusPlus: expected an evaluation above the noise level that the step goes to"));
  const Step last{.index = 0, .count = 1, .sigma = 0.01, .sigma_next = 0.0};
  CHECK_THROWS_WITH(CfgPlusPlus(TextGuidance{}, 0.02).weights(last), Contains("found 0.01 and 0.02"));
}
