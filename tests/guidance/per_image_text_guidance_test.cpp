#include "ip2p/guidance/per_image_text_guidance.hpp"

#include <ATen/ops/cat.h>

#include "ip2p/core/random.hpp"
#include "ip2p/testing/check_guidance.hpp"
#include "ip2p/testing/law.hpp"
#include "support/catch.hpp"

using namespace ip2p;

TEST_CASE("PerImageTextGuidance keeps the laws of guidance", "[guidance]") {
  testing::check_guidance(PerImageTextGuidance{{7.5}}, PerImageTextGuidance{{1.0}});
}

TEST_CASE("PerImageTextGuidance guides each image as TextGuidance with its scale", "[guidance]") {
  const auto stacked = CounterNoise(3).normal({4, 4, 5, 3}, 0);
  const auto both = PerImageTextGuidance{{7.5, 12.25}}.combine(stacked, {});
  const std::array<double, 2> scales{7.5, 12.25};
  for (std::int64_t i = 0; i < 2; ++i) {
    const auto alone = at::cat({stacked.narrow(0, i, 1), stacked.narrow(0, 2 + i, 1)});
    const auto expected = TextGuidance{scales[static_cast<std::size_t>(i)]}.combine(alone, {});
    REQUIRE(testing::close(both.narrow(0, i, 1), expected, 1e-6));
  }
  REQUIRE_THROWS_WITH((PerImageTextGuidance{{1.0, 2.0, 3.0}}.combine(stacked, {})),
                      Catch::Matchers::Contains("expected a scale for each of 2 images, found 3"));
}
