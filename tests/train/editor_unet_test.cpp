#include "ip2p/train/editor_unet.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

#include "ip2p/core/random.hpp"
#include "ip2p/pipeline/load.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"

using namespace ip2p;

TEST_CASE("A text-to-image model's UNet becomes an editor's, which ignores the photograph at first", "[train]") {
  const at::NoGradGuard no_grad;
  const auto files = ModelFiles::open(testing::fixture("pipeline/fixtures/tiny-sd"));
  const auto narrow = load<UNet>(files, {.inference = false});
  const auto wide = load_editor_unet(files);
  REQUIRE(narrow.in_channels() == 4);
  REQUIRE(wide.in_channels() == 8);
  const auto noisy = CounterNoise(1).normal({1, 4, 8, 8}, 0);
  const auto photo = CounterNoise(2).normal({1, 4, 8, 8}, 0);
  const auto context = CounterNoise(3).normal({1, 7, 32}, 0);
  const auto t = at::full({1}, 500.0);
  const auto expected = narrow(noisy, t, context);
  CHECK((wide(at::cat({noisy, photo}, 1), t, context) - expected).abs().max().item<double>() < 1e-5);
}

TEST_CASE("An editor's UNet is loaded as it is, and others are refused", "[train]") {
  const auto path = testing::fixture("pipeline/fixtures/tiny-ip2p");
  const auto editor = ModelFiles::open(path);
  const auto expected = load<UNet>(editor, {.inference = false}).module().named_parameters();
  const auto found = load_editor_unet(editor).module().named_parameters();
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    INFO(expected[i].first);
    CHECK(found[i].first == expected[i].first);
    CHECK(found[i].second.equal(expected[i].second));
  }
  CHECK_THROWS_WITH(load_editor_unet(ModelFiles::open(testing::fixture("unet/fixtures/sd2-inpaint"))),
                    Catch::Contains("4 (text to image) or 8 (editor) input channels, found 9"));
}
