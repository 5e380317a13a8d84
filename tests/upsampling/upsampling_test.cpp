#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "ip2p/io/image.hpp"
#include "ip2p/io/psnr.hpp"
#include "ip2p/testing/check_upsampling.hpp"
#include "ip2p/upsampling/bilateral_guided_upsampling.hpp"
#include "ip2p/upsampling/enlarged.hpp"
#include "ip2p/upsampling/no_upsampling.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/paths.hpp"

// Golden values by tests/parity/make_upsampling_fixtures.py.

namespace {

using namespace ip2p;
using ip2p::testing::fixture;
using ip2p::testing::made_picture;
using ip2p::testing::picture_difference;

struct GoldenEdit {
  nlohmann::json values = ip2p::testing::golden("upsampling/fixtures/upsampling.json");
  Image photo = read_image(fixture("upsampling/fixtures/photo.png"));
  ModelEdit edit{read_image(fixture("upsampling/fixtures/before.png")),
                 read_image(fixture("upsampling/fixtures/after.png")),
                 {values["seen"][0], values["seen"][1], values["seen"][2], values["seen"][3]}};
};

/// All of a photograph as seen by a model of `width` x `height`.
ModelEdit whole(const Image& photo, std::int64_t width, std::int64_t height) {
  const auto small = resize(photo, width, height, Filter::lanczos);
  return {small, small, {0, 0, static_cast<float>(photo.width), static_cast<float>(photo.height)}};
}

Image sepia(Image image) {
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    const double luma = 0.299 * image.pixels[i] + 0.587 * image.pixels[i + 1] + 0.114 * image.pixels[i + 2];
    const double look[3] = {luma * 0.86 + 36, luma * 0.7 + 26, luma * 0.5 + 15};
    for (std::size_t k = 0; k < 3; ++k) image.pixels[i + k] = static_cast<std::uint8_t>(std::min(look[k] + 0.5, 255.0));
  }
  return image;
}

/// A sepia look of `edit.before` is learned and applied to the photograph far more exactly than enlarging could.
void check_sepia_keeps_detail(const Image& photo, ModelEdit edit) {
  edit.after = sepia(edit.before);
  const auto truth = sepia(photo);
  const double mapped = psnr(BilateralGuidedUpsampling{}(photo, edit), truth),
               enlarged = psnr(Enlarged{}(photo, edit), truth);
  CAPTURE(mapped, enlarged);
  CHECK(mapped > 55);
  CHECK(enlarged < 40);
}

}  // namespace

TEST_CASE("The shipped upsampling policies keep the laws", "[upsampling]") {
  testing::check_upsampling(NoUpsampling{});
  testing::check_upsampling(Enlarged{});
  testing::check_upsampling(BilateralGuidedUpsampling{});
  testing::check_upsampling(BilateralGuidedUpsampling{.cells = 4, .tones = 1});
  testing::check_upsampling(BilateralGuidedUpsampling{.cells = 60, .tones = 3, .regularisation = 0.1});
}

TEST_CASE("A bilateral grid is fitted as by NumPy", "[upsampling]") {
  const GoldenEdit golden;
  const auto before = detail::unit_values(golden.edit.before), after = detail::unit_values(golden.edit.after);
  const auto width = golden.edit.before.width, height = golden.edit.before.height;
  std::vector<float> change(before.size()), weight;
  for (std::size_t i = 0; i < change.size(); ++i) change[i] = after[i] - before[i];
  for (std::int64_t i = 0; i < width * height; ++i) {
    weight.push_back(static_cast<float>(i % width) / static_cast<float>(width));
  }
  const auto grid = fit_bilateral_grid(before, change, weight, width, height,
                                       {.columns = 4, .rows = 3, .tones = 5, .regularisation = 1e-3, .smoothing = 2});
  const auto expected = golden.values["grid"].get<std::vector<double>>();
  REQUIRE(grid.maps().size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(std::abs(grid.maps()[i] - expected[i]) < 2e-4);
  }
}

TEST_CASE("BilateralGuidedUpsampling agrees with NumPy", "[upsampling]") {
  const GoldenEdit golden;
  const BilateralGuidedUpsampling upsampling{.cells = 8, .tones = 5};
  const auto learned = upsampling.learn(golden.photo, golden.edit);
  const auto doubt = golden.values["doubt"].get<std::vector<double>>();
  REQUIRE(learned.doubt.size() == doubt.size());
  CHECK(*std::ranges::max_element(doubt) > 0.9);  // at the object
  CHECK(*std::ranges::min_element(doubt) == 0.0);
  double largest = 0;
  for (std::size_t i = 0; i < doubt.size(); ++i) largest = std::max(largest, std::abs(learned.doubt[i] - doubt[i]));
  CHECK(largest < 2e-3);
  const auto [apart, text] = picture_difference(upsampling(golden.photo, golden.edit),
                                                read_image(fixture("upsampling/fixtures/upsampled.png")));
  CAPTURE(text);
  CHECK(apart <= 1);  // float against double, rounded to 8 bits
}

TEST_CASE("A change of colours keeps the detail of the photograph", "[upsampling]") {
  const auto photo = made_picture(192, 128);
  check_sepia_keeps_detail(photo, whole(photo, 48, 32));
}

TEST_CASE("A codec's blur does not reach the result", "[upsampling]") {
  const auto photo = made_picture(192, 128);
  auto edit = whole(photo, 48, 32);
  edit.before = resize(resize(edit.before, 16, 11, Filter::box), 48, 32, Filter::bicubic);
  check_sepia_keeps_detail(photo, edit);
}

TEST_CASE("What the model drew anew is taken from its picture", "[upsampling]") {
  const auto photo = made_picture(256, 256);
  auto edit = whole(photo, 64, 64);
  for (std::int64_t y = 20; y < 40; ++y) {
    for (std::int64_t x = 20; x < 40; ++x) {
      const bool dark = (x / 5 + y / 5) % 2 == 0;  // a chequered flag, of which the photograph knows nothing
      for (std::int64_t k = 0; k < 3; ++k) {
        edit.after.pixels[static_cast<std::size_t>((y * 64 + x) * 3 + k)] = dark ? 10 : 245;
      }
    }
  }
  const BilateralGuidedUpsampling upsampling;
  const auto learned = upsampling.learn(photo, edit);
  CHECK(learned.doubt[30 * 64 + 30] > 0.95F);
  CHECK(learned.doubt[5 * 64 + 55] == 0.0F);
  const auto result = upsampling(photo, edit), enlarged = Enlarged{}(photo, edit);
  const auto apart_at = [&](const Image& other, std::int64_t x, std::int64_t y) {
    int apart = 0;
    for (std::int64_t k = 0; k < 3; ++k) {
      const auto i = static_cast<std::size_t>((y * 256 + x) * 3 + k);
      apart = std::max(apart, std::abs(result.pixels[i] - other.pixels[i]));
    }
    return apart;
  };
  CHECK(apart_at(enlarged, 120, 120) <= 12);  // in the flag
  CHECK(apart_at(enlarged, 131, 111) <= 12);
  CHECK(apart_at(photo, 230, 20) <= 2);  // and far from it
  CHECK(apart_at(photo, 20, 230) <= 2);
}

TEST_CASE("Edges that the model did not see continue the maps", "[upsampling]") {
  const auto photo = made_picture(200, 80);
  const Box seen = fit_box({photo.width, photo.height}, {40, 40});
  CHECK(seen.left == 60);
  CHECK(seen.right == 140);
  const auto before = resize(photo, 40, 40, Filter::lanczos, seen);
  const auto result = BilateralGuidedUpsampling{}(photo, {before, sepia(before), seen});
  const auto truth = sepia(photo);
  double sum = 0;
  for (std::int64_t y = 0; y < 80; ++y) {
    for (std::int64_t i = 0; i < 40 * 3; ++i) {  // far to the left
      const auto place = static_cast<std::size_t>(y * 600 + i);
      sum += std::abs(result.pixels[place] - truth.pixels[place]);
    }
  }
  CHECK(sum / (80 * 40 * 3) < 6);
}

TEST_CASE("A learned edit applies to any copy of the photograph", "[upsampling]") {
  const auto photo = made_picture(96, 64);
  auto edit = whole(photo, 48, 32);
  edit.after = sepia(edit.before);
  const BilateralGuidedUpsampling upsampling;
  const auto learned = upsampling.learn(photo, edit);
  CHECK(BilateralGuidedUpsampling::apply(photo, learned) == upsampling(photo, edit));
  auto brighter = photo;
  for (auto& value : brighter.pixels) value = static_cast<std::uint8_t>(value + 10);
  CHECK(psnr(BilateralGuidedUpsampling::apply(brighter, learned), sepia(brighter)) > 40);
}

TEST_CASE("The sum of nested grids is that of their changes", "[upsampling]") {
  BilateralGrid fine(9, 5, 4), coarse(3, 2, 4), one(1, 1, 1);
  const auto fill = [](BilateralGrid& grid, float scale) {
    for (std::size_t i = 0; i < grid.maps().size(); ++i) grid.maps()[i] = scale * std::sin(static_cast<float>(i));
  };
  fill(fine, 0.3F), fill(coarse, 0.2F), fill(one, 0.1F);
  const auto rgb = detail::unit_values(made_picture(23, 17));
  const auto a = fine.changes(rgb, 23, 17), b = coarse.changes(rgb, 23, 17), c = one.changes(rgb, 23, 17);
  fine.add(coarse);
  fine.add(one);
  const auto sum = fine.changes(rgb, 23, 17);
  double largest = 0;
  for (std::size_t i = 0; i < sum.size(); ++i)
    largest = std::max<double>(largest, std::abs(sum[i] - a[i] - b[i] - c[i]));
  CHECK(largest < 2e-5);
  CHECK_THROWS_WITH(coarse.add(BilateralGrid(4, 2, 4)),
                    "bilateral grid: expected nodes among those of 3x2x4, found 4x2x4");
}

TEST_CASE("A photograph smaller than the model's picture gets that picture reduced, not samples of it",
          "[upsampling]") {
  const auto photo = made_picture(20, 16);
  Image stripes = detail::blank_image(100, 80);
  for (std::size_t i = 0; i < stripes.pixels.size(); ++i) stripes.pixels[i] = i / 3 % 2 == 0 ? 255 : 0;
  const auto reduced = Enlarged{}(photo, {{}, stripes, {0, 0, 20, 16}});
  CHECK(reduced == resize(stripes, 20, 16, Filter::bicubic));
}

TEST_CASE("Upsampling rejects what does not belong together", "[upsampling]") {
  const auto photo = made_picture(30, 20);
  const auto good = whole(photo, 15, 10);
  const BilateralGuidedUpsampling upsampling;
  auto edit = good;
  edit.before = made_picture(10, 15);
  CHECK_THROWS_WITH(upsampling(photo, edit),
                    "picture before the edit: expected the edited picture's size 15x10, found 10x15");
  edit = good;
  edit.before = {};
  CHECK_THROWS_WITH(upsampling(photo, edit), "picture before the edit: expected positive width and height, got 0x0");
  CHECK(Enlarged{}(photo, edit).width == 30);
  edit = good;
  edit.seen.right = 31;
  CHECK_THROWS_WITH(upsampling(photo, edit),
                    "part that the model saw: expected a box inside 30x20, found (0, 0, 31, 20)");
  edit.seen.right = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(Enlarged{}(photo, edit), Error);
  auto learned = upsampling.learn(photo, good);
  learned.doubt.pop_back();
  CHECK_THROWS_WITH(BilateralGuidedUpsampling::apply(photo, learned),
                    "LearnedEdit: doubt: expected a number for each of 15x10 pixels, found 149");
  CHECK_THROWS_WITH((BilateralGuidedUpsampling{.cells = 3}(photo, good)),
                    Contains("expected cells >= 4") && Contains("found 3, 16, 0.001, 2 and 6"));
  CHECK_THROWS_AS((BilateralGuidedUpsampling{.regularisation = 0}(photo, good)), Error);
  CHECK_THROWS_AS((BilateralGuidedUpsampling{.doubt_from = 6}(photo, good)), Error);
}

TEST_CASE("A masked edit is learned from the inside of the mask", "[upsampling]") {
  const auto photo = made_picture(256, 256);
  auto edit = whole(photo, 64, 64);
  const auto look = sepia(edit.before), truth = sepia(photo);
  edit.inside = Image{64, 64, std::vector<std::uint8_t>(64 * 64 * 3)};
  for (std::size_t y = 24; y < 40; ++y) {
    for (std::size_t i = (y * 64 + 24) * 3; i < (y * 64 + 40) * 3; ++i) {
      edit.after.pixels[i] = look.pixels[i];
      edit.inside.pixels[i] = 255;
    }
  }
  const auto difference_inside = [&](const Image& result) {
    double sum = 0;
    for (std::size_t y = 100; y < 156; ++y) {
      for (std::size_t i = (y * 256 + 100) * 3; i < (y * 256 + 156) * 3; ++i) {
        sum += std::abs(result.pixels[i] - truth.pixels[i]);
      }
    }
    return sum / (56 * 56 * 3);
  };
  const double masked = difference_inside(BilateralGuidedUpsampling{}(photo, edit));
  edit.inside = {};
  const double everywhere = difference_inside(BilateralGuidedUpsampling{}(photo, edit));
  CAPTURE(masked, everywhere);
  CHECK(masked < 3);
  CHECK(masked < 0.6 * everywhere);
}
