#include "ip2p/guidance/rescaled.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/guidance/text_guidance.hpp"
#include "ip2p/testing/check_guidance.hpp"
#include "support/golden.hpp"

using namespace ip2p;

static_assert(GuidancePolicy<Rescaled<DualGuidance>> && !LinearGuidancePolicy<Rescaled<DualGuidance>>);

TEST_CASE("Rescaled keeps the laws of guidance", "[guidance]") {
  testing::check_guidance(Rescaled{DualGuidance{}, 0.7}, Rescaled{DualGuidance{1.0, 1.0}, 0.7});
  testing::check_guidance(Rescaled<TextGuidance>{.base = {.text_scale = 3.0}, .phi = 1.0});
  testing::check_guidance(Rescaled{DualGuidance{.image_scale = 1.0}, 0.5});
  testing::check_guidance(Rescaled{Rescaled{TextGuidance{}, 0.5}, 0.5});
}

TEST_CASE("Rescaled equals diffusers' rescale_noise_cfg", "[guidance]") {
  const auto fixture = testing::golden("guidance/fixtures/rescale.json");
  const auto shape = fixture["shape"].get<std::vector<std::int64_t>>();
  const at::Tensor stacked =
      at::cat({testing::golden_tensor(fixture["text"], shape), testing::golden_tensor(fixture["null"], shape)});
  REQUIRE(fixture["results"].size() == 5);
  for (const auto& result : fixture["results"]) {
    const Rescaled guidance{TextGuidance{result["scale"].get<double>()}, result["phi"].get<double>()};
    INFO("scale " << guidance.base.text_scale << ", phi " << guidance.phi);
    const at::Tensor expected = testing::golden_tensor(result["result"], shape);
    REQUIRE(testing::largest_difference(guidance.combine(stacked, Step{}), expected) <
            1e-6 * expected.abs().max().item<double>());
  }
}

TEST_CASE("Rescaled leaves a prediction without spread unchanged", "[guidance]") {
  const at::Tensor flat = at::full({2, 4, 3, 3}, 0.25);
  REQUIRE(testing::largest_difference(Rescaled{TextGuidance{}, 1.0}.combine(flat, Step{}), flat.narrow(0, 0, 1)) == 0);
}

TEST_CASE("Rescaled refuses a share outside 0 ... 1", "[guidance]") {
  const at::Tensor stacked = at::full({2, 4, 3, 3}, 0.25);
  REQUIRE_THROWS_WITH((Rescaled{TextGuidance{}, 1.5}.combine(stacked, Step{})),
                      "Rescaled: phi: expected 0 ... 1, found 1.5");
}
