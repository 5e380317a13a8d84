#include <ATen/ops/tensor.h>

#include "ip2p/guidance/text_first_dual_guidance.hpp"

#include "ip2p/testing/check_guidance.hpp"
#include "support/golden.hpp"

using namespace ip2p;

TEST_CASE("TextFirstDualGuidance keeps the laws of guidance", "[guidance]") {
  testing::check_guidance(TextFirstDualGuidance{}, TextFirstDualGuidance{.image_scale = 1.0, .text_scale = 1.0},
                          {.text = 7.5, .image = 1.5});
  testing::check_guidance(TextFirstDualGuidance{.image_scale = 0.0, .text_scale = 3.0});
}

TEST_CASE("TextFirstDualGuidance moves along the text, then along the image", "[guidance]") {
  // One sample of one value: full 5, text 3, null 2.
  const at::Tensor stacked = at::tensor(at::ArrayRef<float>({5.0F, 3.0F, 2.0F})).reshape({3, 1, 1, 1});
  const TextFirstDualGuidance guidance{.image_scale = 1.5, .text_scale = 7.5};
  REQUIRE(guidance.combine(stacked, Step{}).item<float>() == 2.0F + 7.5F * (3.0F - 2.0F) + 1.5F * (5.0F - 3.0F));
  REQUIRE(guidance.weights(Step{}) == std::array<double, 3>{1.5, 6.0, -6.5});
}
