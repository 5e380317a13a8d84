#include "ip2p/attention/heat_map.hpp"

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "support/golden.hpp"

using namespace ip2p;

namespace {

const Image grey = from_tensor(at::full({3, 4, 6}, 100, at::kByte));

std::vector<int> pixel(const Image& image, std::int64_t y, std::int64_t x) {
  const auto* first = &image.pixels[static_cast<std::size_t>((y * image.width + x) * 3)];
  return {first[0], first[1], first[2]};
}

}  // namespace

TEST_CASE("A word's map is the mean of its tokens' maps", "[attention]") {
  at::Tensor maps = at::zeros({4, 2, 2});
  maps[1] = 1.0;
  maps[2] = 3.0;
  const std::vector<std::int64_t> tokens{1, 2};
  CHECK(word_map(maps, tokens).equal(at::full({2, 2}, 2.0F)));
  CHECK_THROWS_WITH(word_map(maps, std::vector<std::int64_t>{4}), "word_map: token: expected 0 ... 3, found 4");
  CHECK_THROWS_WITH(word_map(maps, std::vector<std::int64_t>{}), "word_map: expected token positions, found none");
  CHECK_THROWS_WITH(word_map(maps[0], tokens), "maps: expected [T, h, w], found [2, 2]");
}

TEST_CASE("A heat map goes from blue over green to red at its largest value", "[attention]") {
  const at::Tensor map = at::tensor(at::ArrayRef<float>({0.0F, 0.1F, 0.2F})).reshape({1, 3});
  const Image colours = overlay_heat_map(grey, map, 1.0);
  REQUIRE(colours.width == 6);
  REQUIRE(colours.height == 4);
  CHECK(pixel(colours, 0, 0) == std::vector<int>{0, 0, 128});
  CHECK(pixel(colours, 3, 5) == std::vector<int>{128, 0, 0});
  // On either side of the map's middle pixel, at 3/8 and 5/8 of the largest value.
  CHECK(pixel(colours, 2, 2) == std::vector<int>{0, 255, 255});
  CHECK(pixel(colours, 2, 3) == std::vector<int>{255, 255, 0});
  const Image half = overlay_heat_map(grey, map, 0.5);
  CHECK(pixel(half, 0, 0) == std::vector<int>{50, 50, 114});
  CHECK(overlay_heat_map(grey, map, 0.0) == grey);
}

TEST_CASE("A heat map of nothing is blue, whatever its size", "[attention]") {
  const Image colours = overlay_heat_map(grey, at::zeros({16, 16}), 1.0);
  CHECK(pixel(colours, 1, 3) == std::vector<int>{0, 0, 128});
}

TEST_CASE("Heat maps refuse other shapes and opacities", "[attention]") {
  CHECK_THROWS_WITH(overlay_heat_map(grey, at::zeros({1, 2, 2})), "map: expected [h, w], found [1, 2, 2]");
  CHECK_THROWS_WITH(overlay_heat_map(grey, at::zeros({2, 2}), 1.5), "opacity: expected 0 ... 1, found 1.5");
}
