#include "ip2p/guidance/limited_interval.hpp"

#include <ATen/ops/cat.h>

#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/guided.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "ip2p/guidance/text_first_dual_guidance.hpp"
#include "ip2p/testing/check_guidance.hpp"
#include "support/golden.hpp"

using namespace ip2p;

static_assert(LinearGuidancePolicy<LimitedInterval<DualGuidance>>);
static_assert(SelectiveGuidancePolicy<LimitedInterval<Rescaled<DualGuidance>>>);
static_assert(!LinearGuidancePolicy<LimitedInterval<Rescaled<DualGuidance>>>);

namespace {

/// How many branches a run over these noise levels evaluates; checks the result of each step against `combine`.
template <class Guidance>
std::int64_t evaluated(const Guidance& guidance, const std::vector<double>& sigmas) {
  const at::Tensor x = CounterNoise(1).normal({2, 4, 3, 3}, 0);
  const auto network = [](const at::Tensor& y, double, const Step&, std::span<const Branch> branches) {
    std::vector<at::Tensor> parts;
    for (const Branch& branch : branches) parts.push_back(y.mul(branch.text ? 1.5 : 0.5).add(branch.image ? 1.0 : 0.0));
    return at::cat(parts);
  };
  Guided guided(network, guidance);
  for (std::size_t i = 0; i < sigmas.size(); ++i) {
    const Step step{
        .index = static_cast<std::int64_t>(i), .count = static_cast<std::int64_t>(sigmas.size()), .sigma = sigmas[i]};
    const at::Tensor all = guidance.combine(network(x, 0.0, step, Guidance::branches), step);
    REQUIRE(testing::largest_difference(guided(x, 0.0, step), all) < 1e-5);
  }
  return guided.evaluated_branches();
}

const std::vector<double> levels{14.6, 5.0, 2.0, 1.0, 0.5};  // (1, 5] contains the second and the third

}  // namespace

TEST_CASE("LimitedInterval keeps the laws of guidance", "[guidance]") {
  // The kit's steps are at noise levels 14.6, 3.65 and 1.46.
  testing::check_guidance(LimitedInterval{DualGuidance{}, 2.0, 4.0}, LimitedInterval{DualGuidance{1.0, 1.0}, 2.0, 4.0});
  testing::check_guidance(LimitedInterval<TextFirstDualGuidance>{.base = {}, .sigma_low = 2.0});
  testing::check_guidance(LimitedInterval{Rescaled{DualGuidance{}, 0.7}, 2.0, 4.0});
  testing::check_guidance(Rescaled{LimitedInterval{DualGuidance{}, 2.0, 4.0}, 0.7});
}

TEST_CASE("LimitedInterval evaluates one branch outside the interval, whose upper end belongs to it", "[guidance]") {
  REQUIRE(evaluated(LimitedInterval{DualGuidance{}, 1.0, 5.0}, levels) == 2 * 3 + 3 * 1);
  REQUIRE(evaluated(LimitedInterval{DualGuidance{.image_scale = 1.0}, 1.0, 5.0}, levels) == 2 * 2 + 3 * 1);
  REQUIRE(evaluated(LimitedInterval<DualGuidance>{.base = {}}, levels) == 5 * 3);
  // Not linear, yet no more branches are evaluated, whichever one wraps the other.
  REQUIRE(evaluated(LimitedInterval{Rescaled{DualGuidance{}, 0.7}, 1.0, 5.0}, levels) == 2 * 3 + 3 * 1);
  REQUIRE(evaluated(Rescaled{LimitedInterval{DualGuidance{}, 1.0, 5.0}, 0.7}, levels) == 2 * 3 + 3 * 1);
  REQUIRE(evaluated(Rescaled{DualGuidance{.image_scale = 1.0}, 0.7}, levels) == 5 * 2);
  // The fully conditioned branch determines the spread, even if its weight is 0.
  REQUIRE(evaluated(Rescaled{DualGuidance{.image_scale = 1.5, .text_scale = 0.0}, 0.7}, levels) == 5 * 3);
}

TEST_CASE("LimitedInterval equals the fully conditioned branch outside and its base inside", "[guidance]") {
  const at::Tensor stacked = CounterNoise(2).normal({3 * 2, 4, 3, 3}, 0);
  const LimitedInterval guidance{DualGuidance{}, 1.0, 5.0};
  const Step inside{.sigma = 5.0};
  const Step below{.sigma = 1.0};
  REQUIRE(guidance.combine(stacked, inside).equal(DualGuidance{}.combine(stacked, inside)));
  REQUIRE(guidance.combine(stacked, below).equal(stacked.narrow(0, 0, 2)));
  REQUIRE(guidance.weights(below) == std::array<double, 3>{1.0, 0.0, 0.0});
}

TEST_CASE("LimitedInterval refuses an empty interval", "[guidance]") {
  const at::Tensor stacked = CounterNoise(2).normal({3, 4, 3, 3}, 0);
  REQUIRE_THROWS_WITH((LimitedInterval{DualGuidance{}, 5.0, 1.0}.combine(stacked, Step{})),
                      "LimitedInterval: expected sigma_low < sigma_high, found 5 and 1");
}
