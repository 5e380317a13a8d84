#include <ATen/ops/tensor.h>

#include "ip2p/guidance/text_guidance.hpp"

#include "ip2p/testing/check_guidance.hpp"
#include "support/golden.hpp"

using namespace ip2p;

TEST_CASE("TextGuidance keeps the laws of guidance", "[guidance]") {
  testing::check_guidance(TextGuidance{}, TextGuidance{.text_scale = 1.0}, {.text = 7.5});
  testing::check_guidance(TextGuidance{.text_scale = 0.0});
}

TEST_CASE("TextGuidance moves from the null prediction along the text", "[guidance]") {
  const at::Tensor stacked = at::tensor(at::ArrayRef<float>({5.0F, 2.0F})).reshape({2, 1, 1, 1});
  REQUIRE(TextGuidance{.text_scale = 3.0}.combine(stacked, Step{}).item<float>() == 11.0F);
}
