#include "ip2p/guidance/guided_denoiser.hpp"

#include <functional>

#include "guidance/golden_branches.hpp"
#include "ip2p/guidance/adaptive_projected_guidance.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "ip2p/guidance/scheduled.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/sampling/heun.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "ip2p/testing/check_guidance.hpp"

using namespace ip2p;

namespace {

/// The latents, once for each of two branches.
at::Tensor twice(const at::Tensor& x, const at::Tensor& stacked) {
  require(stacked.size(0) == 2 * x.size(0), "stacked: expected {} rows, found {}", 2 * x.size(0), stacked.size(0));
  return x.repeat({2, 1, 1, 1});
}

/// Rescaled text guidance of predicted noise, written for estimates of x0: it needs x to convert both ways.
struct RescaledThroughEstimates {
  static constexpr auto branches = TextGuidance::branches;
  static constexpr bool over_estimates = true;
  Rescaled<TextGuidance> base{};
  at::Tensor combine(const at::Tensor& stacked, const Step& step, const at::Tensor& x) const {
    const at::Tensor noise = twice(x, stacked).sub(stacked).div(step.sigma);
    return x.sub(base.combine(noise, step), step.sigma);
  }
};
static_assert(GuidancePolicy<RescaledThroughEstimates> && over_estimates<RescaledThroughEstimates>());

/// Projected guidance, written for predicted noise: it needs x to make estimates and to convert back.
struct ProjectedThroughNoise {
  AdaptiveProjectedGuidance<> base{};
  static constexpr auto branches = TextGuidance::branches;
  auto start() const { return base.start(); }
  at::Tensor combine(const at::Tensor& stacked, const Step& step, const at::Tensor& x,
                     AdaptiveProjectedGuidance<>::State& run) const {
    const at::Tensor estimates = twice(x, stacked).sub(stacked, step.sigma);
    return x.sub(base.combine(estimates, step, x, run)).div(step.sigma);
  }
};
static_assert(StatefulGuidancePolicy<ProjectedThroughNoise> && !over_estimates<ProjectedThroughNoise>());

/// Counts the evaluations of its run, for samplers with two per step.
struct Counted {
  static constexpr auto branches = TextGuidance::branches;
  std::vector<std::int64_t>* counts;
  std::int64_t start() const { return 0; }
  at::Tensor combine(const at::Tensor& stacked, const Step& /*step*/, const at::Tensor& /*x*/,
                     std::int64_t& run) const {
    counts->push_back(++run);
    return stacked.narrow(0, 0, stacked.size(0) / 2);
  }
};

const LogLinearSigmas schedule;

template <class Guidance, class Sampler = Euler>
at::Tensor run_under(const Guidance& guidance, std::int64_t steps = 5, Sampler sampler = {}) {
  CounterNoise noise(1);
  const auto sigmas = schedule.sigmas(steps);
  auto denoiser = guided_denoiser(testing::GoldenBranches{}, guidance, schedule, EpsPrediction{});
  static_assert(Denoiser<decltype(denoiser)&>);
  return sampler.sample(denoiser, noise.normal({2, 4, 5, 3}, 0).to(at::kDouble).mul(sigmas.front()), sigmas, noise);
}

}  // namespace

TEST_CASE("guided_denoiser computes ordinary guidance like NetworkDenoiser over Guided", "[guidance]") {
  CounterNoise noise(1);
  const auto sigmas = schedule.sigmas(5);
  NetworkDenoiser denoiser(Guided(testing::GoldenBranches{}, DualGuidance{}), schedule);
  const at::Tensor start = noise.normal({2, 4, 5, 3}, 0).to(at::kDouble).mul(sigmas.front());
  CHECK(testing::same_bits(Euler{}.sample(denoiser, start, sigmas, noise), run_under(DualGuidance{})));
}

TEST_CASE("A guidance receives what it asks for: estimates or predictions, and the noisy latents", "[guidance]") {
  testing::check_guidance(RescaledThroughEstimates{});
  CHECK(testing::close(run_under(RescaledThroughEstimates{}), run_under(Rescaled<TextGuidance>{}), 1e-9));
  testing::check_guidance(ProjectedThroughNoise{});
  const AdaptiveProjectedGuidance<> projected{.base = {.text_scale = 10.0}, .threshold = 0.5};
  CHECK(testing::close(run_under(ProjectedThroughNoise{projected}), run_under(projected), 1e-9));
}

TEST_CASE("Combinators pass on what their base asks for", "[guidance]") {
  const AdaptiveProjectedGuidance<DualGuidance> base{.base = {}, .threshold = 0.5};
  const LimitedInterval everywhere{base, 0.0, 1e9};
  const Rescaled untouched{base, 0.0};
  const Scheduled same([&](const Step&) { return base; });
  static_assert(over_estimates<decltype(everywhere)>() && over_estimates<decltype(untouched)>() &&
                over_estimates<decltype(same)>());
  const at::Tensor expected = run_under(base);
  CHECK(testing::same_bits(run_under(everywhere), expected));
  CHECK(testing::close(run_under(untouched), expected, 1e-12));
  CHECK(testing::same_bits(run_under(same), expected));
  CHECK(testing::same_bits(run_under(LimitedInterval{Rescaled{same, 0.0}, 0.0, 1e9}), run_under(Rescaled{base, 0.0})));
  CHECK_FALSE(testing::close(run_under(LimitedInterval{base, 0.5, 4.0}), expected, 1e-3));

  testing::check_guidance(LimitedInterval{base, 2.0, 4.0});
  testing::check_guidance(Rescaled{base, 0.7});
  testing::check_guidance(Scheduled([](const Step& step) {
    return LimitedInterval{Rescaled{AdaptiveProjectedGuidance<>{.base = {.text_scale = 3.0 + step.progress()}}, 0.5},
                           2.0, 4.0};
  }));
  testing::check_guidance(LimitedInterval{RescaledThroughEstimates{}, 2.0, 4.0});
  CHECK(testing::same_bits(run_under(Scheduled([](const Step&) { return RescaledThroughEstimates{}; })),
                           run_under(RescaledThroughEstimates{})));
}

TEST_CASE("The state of a guidance belongs to one run", "[guidance]") {
  std::vector<std::int64_t> counts;
  const Counted guidance{&counts};
  (void)run_under(guidance, 3);
  (void)run_under(guidance, 2);
  CHECK(counts == std::vector<std::int64_t>{1, 2, 3, 1, 2});
  counts.clear();
  (void)run_under(guidance, 3, Heun{});
  CHECK(counts == std::vector<std::int64_t>{1, 2, 3, 4, 5});

  CounterNoise noise(1);
  const auto sigmas = schedule.sigmas(3);
  const at::Tensor start = noise.normal({1, 4, 2, 2}, 0).mul(sigmas.front());
  testing::GoldenBranches network;
  auto used = guided_denoiser(std::ref(network), guidance, schedule, EpsPrediction{});
  (void)Euler{}.sample(used, start, sigmas, noise);
  CHECK_THROWS_WITH(Euler{}.sample(used, start, sigmas, noise),
                    "guidance: expected the steps of one run in order, found step 0 after step 2: its state belongs to "
                    "one run, make a denoiser for each");
}
