#include "ip2p/guidance/scheduled.hpp"

#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/guided.hpp"
#include "ip2p/guidance/limited_interval.hpp"
#include "ip2p/guidance/rescaled.hpp"
#include "ip2p/guidance/text_first_dual_guidance.hpp"
#include "ip2p/testing/check_guidance.hpp"
#include "support/golden.hpp"

using namespace ip2p;

namespace {

const Scheduled fading([](const Step& step) {
  return DualGuidance{.image_scale = 1.5, .text_scale = 7.5 * (1.0 - step.progress())};
});
static_assert(LinearGuidancePolicy<decltype(fading)>);

}  // namespace

TEST_CASE("Scheduled keeps the laws of guidance", "[guidance]") {
  testing::check_guidance(fading);
  testing::check_guidance(Scheduled([](const Step& step) {
    return LimitedInterval{Rescaled{TextFirstDualGuidance{.text_scale = 3.0 + step.progress()}, 0.5}, 2.0, 20.0};
  }));
  testing::check_guidance(LimitedInterval{Rescaled{fading, 0.5}, 2.0, 20.0});
}

TEST_CASE("Scheduled combines with the scales of the step and leaves out branches that they leave out", "[guidance]") {
  const at::Tensor x = CounterNoise(1).normal({1, 4, 3, 3}, 0);
  std::vector<std::int64_t> rows;
  Guided guided(
      [&](const at::Tensor& y, double, const Step&, std::span<const Branch> branches) {
        rows.push_back(static_cast<std::int64_t>(branches.size()));
        return y.repeat({static_cast<std::int64_t>(branches.size()), 1, 1, 1});
      },
      fading);
  for (std::int64_t i = 0; i < 3; ++i) (void)guided(x, 0.0, Step{.index = i, .count = 3, .sigma = 1.0});
  // The last step's text scale is 0: e_full is not evaluated.
  REQUIRE(rows == std::vector<std::int64_t>{3, 3, 2});
  REQUIRE(fading.weights(Step{.index = 1, .count = 3})[0] == 3.75);
}
