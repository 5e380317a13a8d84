#include <ATen/ops/tensor.h>

#include "ip2p/guidance/adaptive_projected_guidance.hpp"

#include "guidance/golden_branches.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/guided_denoiser.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/guidance/scheduled.hpp"
#include "ip2p/guidance/text_first_dual_guidance.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/schedule/linear_sigmas.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/testing/check_guidance.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

const Step first_step{.index = 0, .count = 10, .sigma = 2.0, .sigma_next = 1.0};
const Step second{.index = 1, .count = 10, .sigma = 1.0, .sigma_next = 0.5};

template <class Base>
AdaptiveProjectedGuidance<Base> of(Base base, const nlohmann::json& run) {
  return {.base = base,
          .parallel = run["parallel"].get<double>(),
          .momentum = run["momentum"].get<double>(),
          .threshold = run["threshold"].get<double>()};
}

}  // namespace

TEST_CASE("AdaptiveProjectedGuidance keeps the laws of guidance", "[guidance]") {
  testing::check_guidance(AdaptiveProjectedGuidance<>{}, AdaptiveProjectedGuidance{TextGuidance{.text_scale = 1.0}});
  testing::check_guidance(AdaptiveProjectedGuidance<DualGuidance>{},
                          AdaptiveProjectedGuidance{DualGuidance{.image_scale = 1.0, .text_scale = 1.0}});
  testing::check_guidance(AdaptiveProjectedGuidance<TextFirstDualGuidance>{.base = {}, .parallel = 0.4});
  testing::check_guidance(AdaptiveProjectedGuidance{DualGuidance{.image_scale = 1.0}});
  testing::check_guidance(AdaptiveProjectedGuidance<NoGuidance>{});
  testing::check_guidance(AdaptiveProjectedGuidance{Scheduled([](const Step& step) {
    return LimitedInterval{DualGuidance{.text_scale = 3.0 + step.progress()}, 2.0, 4.0};
  })});
}

TEST_CASE("AdaptiveProjectedGuidance equals diffusers' over whole runs on estimates of x0", "[guidance]") {
  const auto fixture = testing::golden("guidance/fixtures/projected.json");
  const auto shape = fixture["shape"].get<std::vector<std::int64_t>>();
  const auto schedule = LinearSigmas::from_config(scheduler_config_from_json(fixture["config"], "fixture"));
  const auto difference = [&](const nlohmann::json& run, const auto& guidance) {
    INFO(run["scales"] << ", parallel " << guidance.parallel << ", momentum " << guidance.momentum);
    const auto sigmas = schedule.sigmas(run["n"].get<std::int64_t>());
    const auto start = testing::golden_start(run, shape).mul(initial_sigma(schedule, sigmas));
    // The reference's noise levels are fp32.
    const auto found = testing::golden_difference(
        Euler{}, guided_denoiser(testing::GoldenBranches{}, guidance, schedule, EpsPrediction{}), start, sigmas,
        run["states"]);
    CHECK(found < 2e-6);
  };
  REQUIRE(fixture["text"].size() == 4);
  for (const auto& run : fixture["text"]) {
    difference(run, of(TextGuidance{.text_scale = run["scales"][0].get<double>()}, run));
  }
  REQUIRE(fixture["dual"].size() == 3);
  for (const auto& run : fixture["dual"]) {
    difference(run, of(DualGuidance{.image_scale = run["scales"][1].get<double>(),
                                    .text_scale = run["scales"][0].get<double>()},
                       run));
  }
}

TEST_CASE("AdaptiveProjectedGuidance equals its base if it keeps the whole difference", "[guidance]") {
  const at::Tensor stacked = CounterNoise(2).normal({6, 4, 3, 3}, 0).to(at::kDouble);
  const auto plain = [&](const auto& base) {
    const AdaptiveProjectedGuidance guidance{base, 1.0, 0.0, 0.0};
    const auto expected = base.combine(stacked, first_step);
    CHECK(testing::close(testing::combine_once(guidance, stacked, first_step, at::Tensor()), expected, 1e-12));
  };
  plain(TextGuidance{.text_scale = 7.5});
  plain(DualGuidance{});
  plain(TextFirstDualGuidance{});
}

TEST_CASE("AdaptiveProjectedGuidance drops the part along the estimate and shortens the rest", "[guidance]") {
  // One sample of three values: text (2, 0, 0), null (1, -3, -4): the difference (1, 3, 4), along the text (1, 0, 0).
  const at::Tensor stacked =
      at::tensor(at::ArrayRef<double>({2.0, 0.0, 0.0, 1.0, -3.0, -4.0}), at::kDouble).reshape({2, 3, 1, 1});
  const auto found = [&](double parallel, double threshold) {
    AdaptiveProjectedGuidance<> guidance{
        .base = {.text_scale = 3.0}, .parallel = parallel, .momentum = 0.0, .threshold = threshold};
    return testing::combine_once(guidance, stacked, first_step, at::Tensor());
  };
  const auto expect = [](const at::Tensor& result, std::vector<double> values) {
    CHECK(testing::close(result, at::tensor(at::ArrayRef<double>(values), at::kDouble).reshape({1, 3, 1, 1}), 1e-12));
  };
  expect(found(1.0, 0.0), {4.0, 6.0, 8.0});
  expect(found(0.0, 0.0), {2.0, 6.0, 8.0});
  expect(found(0.5, 0.0), {3.0, 6.0, 8.0});
  const double shortened = 2.0 / std::sqrt(26.0);
  expect(found(0.0, 2.0), {2.0, 6.0 * shortened, 8.0 * shortened});
  expect(found(0.0, 6.0), {2.0, 6.0, 8.0});
}

TEST_CASE("AdaptiveProjectedGuidance remembers differences only within a run", "[guidance]") {
  const AdaptiveProjectedGuidance<> guidance{.base = {.text_scale = 3.0}, .momentum = -0.5, .threshold = 0.0};
  const at::Tensor stacked = CounterNoise(2).normal({2, 4, 3, 3}, 0).to(at::kDouble);
  auto run = guidance.start();
  const auto alone = guidance.combine(stacked, first_step, at::Tensor(), run);
  // The second step's difference is halved: d - d / 2.
  const auto halved = guidance.combine(stacked, second, at::Tensor(), run);
  CHECK(testing::close(halved - stacked[0], (alone - stacked[0]) / 2, 1e-12));
  CHECK(testing::same_bits(testing::combine_once(guidance, stacked, first_step, at::Tensor()), alone));
}

TEST_CASE("AdaptiveProjectedGuidance evaluates only the branches of differences that have a scale", "[guidance]") {
  using Needed = std::array<bool, 3>;
  const auto needs = [](double image, double text) {
    return AdaptiveProjectedGuidance{DualGuidance{.image_scale = image, .text_scale = text}}.needs(first_step);
  };
  CHECK(needs(1.5, 7.5) == Needed{true, true, true});
  CHECK(needs(1.0, 7.5) == Needed{true, true, false});
  CHECK(needs(1.5, 1.0) == Needed{true, true, true});
  CHECK(needs(1.0, 1.0) == Needed{true, false, false});
  CHECK(needs(1.0, 0.3) == Needed{true, true, false});  // 0.3 + (1 - 0.3) is not 1 in binary
}

TEST_CASE("AdaptiveProjectedGuidance refuses meaningless numbers", "[guidance]") {
  const at::Tensor stacked = CounterNoise(2).normal({2, 4, 3, 3}, 0);
  const auto combine = [&](const AdaptiveProjectedGuidance<>& guidance) {
    return testing::combine_once(guidance, stacked, first_step, at::Tensor());
  };
  CHECK_THROWS_WITH(combine({.base = {}, .threshold = -1.0}),
                    "AdaptiveProjectedGuidance: expected a threshold >= 0, found -1");
  CHECK_THROWS_WITH(combine({.base = {}, .momentum = NAN}),
                    "AdaptiveProjectedGuidance: expected finite parallel and momentum, found 0 and nan");
  CHECK_THROWS_WITH(combine({.base = {.text_scale = INFINITY}}), Contains("expected finite scales, found inf"));
}
