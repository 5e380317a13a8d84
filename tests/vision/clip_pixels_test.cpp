#include "ip2p/vision/clip_pixels.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <string>
#include <vector>

#include "vision/golden_clip.hpp"

// Expected values: transformers' CLIPImageProcessor and torch's bicubic interpolation, by
// tests/parity/make_clip_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

constexpr std::int64_t side = 32;

}  // namespace

TEST_CASE("clip_square equals CLIPImageProcessor bit for bit, for wide, tall and nearly square pictures", "[vision]") {
  const auto file = golden_clip();
  const auto squares = file.tensor("processor_squares");
  const auto all = golden_pictures();
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(at::equal(to_tensor(clip_square(all[i], side)), squares[static_cast<std::int64_t>(i)]));
  }
}

TEST_CASE("clip_pixels equals CLIPImageProcessor and the released bicubic form", "[vision][parity]") {
  const auto file = golden_clip();
  const auto all = golden_pictures();
  CHECK(max_difference(clip_pixels(all, side, ClipView::processor), file.tensor("processor_pixels")) < 1e-5);
  CHECK(max_difference(clip_pixels(all, side, ClipView::released), file.tensor("released_pixels")) < 1e-6);
}

TEST_CASE("clip_square leaves a square of the requested size alone and crops the middle of a wide picture",
          "[vision]") {
  Image wide{12, 4, std::vector<std::uint8_t>(144)};
  for (std::size_t i = 0; i < wide.pixels.size(); ++i) wide.pixels[i] = static_cast<std::uint8_t>(i);
  const Image square = clip_square(wide, 4);
  CHECK(square.width == 4);
  CHECK(square.pixels[0] == wide.pixels[4 * 3]);
  CHECK(square.pixels[12] == wide.pixels[(12 + 4) * 3]);
  CHECK(clip_square(square, 4) == square);
}

TEST_CASE("Pictures that CLIP cannot process are refused", "[vision]") {
  CHECK_THROWS_WITH(clip_pixels({}, 8), Contains("expected at least one picture, found none"));
  CHECK_THROWS_WITH(clip_square(Image{2, 2, std::vector<std::uint8_t>(12)}, 0),
                    Contains("expected a positive side, found 0"));
  CHECK_THROWS_WITH(released_clip_pixels(at::zeros({3, 8, 8}), 8),
                    Contains("expected images [B, 3, H, W], found [3, 8, 8]"));
}
