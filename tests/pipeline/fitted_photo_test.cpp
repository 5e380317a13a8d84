#include "ip2p/pipeline/fitted_photo.hpp"

#include <ATen/ops/equal.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/load.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"

namespace {

using namespace ip2p;
using ip2p::testing::tiny_files;
using ip2p::testing::tiny_photo;

std::string fitted_as(Size photo, const FitRule& rule) { return describe_fit(plan_fit(photo, rule)); }

}  // namespace

TEST_CASE("By default, fit_photo makes what prepare_photos makes, and pipelines take it as it is", "[pipeline]") {
  for (const auto numerics : {Numerics::released, Numerics::diffusers}) {
    for (const std::optional<std::int64_t> resolution :
         {std::optional<std::int64_t>(), std::optional<std::int64_t>(150)}) {
      for (const auto& [width, height] : {std::pair{150, 101}, std::pair{98, 98}, std::pair{101, 150},
                                          std::pair{64, 64}, std::pair{40, 33}, std::pair{300, 20}}) {
        const auto photo = tiny_photo(width, height, 5);
        const auto fitted = fit_photo(photo, {.resolution = resolution, .numerics = numerics});
        const auto prepared = prepare_photos({&photo, 1}, resolution, numerics);
        CAPTURE(width, height, numerics == Numerics::released);
        CHECK(at::equal(images_to_tensor({&fitted.image, 1}), prepared));
        CHECK(at::equal(prepare_photos({&fitted.image, 1}, fitted.resolution, numerics), prepared));
        CHECK(own_part(fitted, fitted.image) == fitted.image);
        const auto seen = seen_part({width, height}, resolution, numerics);
        CHECK(fitted.seen.left == seen.left);
        CHECK(fitted.seen.bottom == seen.bottom);
      }
    }
  }
}

TEST_CASE("Padding shows all of the photograph and is taken off again", "[pipeline]") {
  const auto photo = tiny_photo(150, 101, 5);
  const auto fitted = fit_photo(photo, {.resolution = 128, .fit = Fit::pad});
  CHECK(fitted.image.width == 128);
  CHECK(fitted.image.height == 128);
  const auto own = own_part(fitted, fitted.image);
  CHECK(own == resize(photo, 128, 86, Filter::lanczos, std::nullopt, PassOrder::horizontal_first));
  // The row above the photograph is its second one.
  const auto row = [](const Image& image, std::int64_t y) {
    return std::vector(image.pixels.begin() + y * image.width * 3, image.pixels.begin() + (y + 1) * image.width * 3);
  };
  CHECK(fitted.top == 21);
  CHECK(row(fitted.image, 20) == row(own, 1));
  CHECK(row(fitted.image, 21 + 86) == row(own, 84));
  CHECK(fitted.image != own);
  CHECK_THROWS_WITH(own_part(fitted, photo), Contains("expected 128x128, found 150x101"));
  // A photograph so thin that its mirror image has to be repeated.
  const auto thin = fit_photo(tiny_photo(300, 4), {.resolution = 128, .fit = Fit::pad});
  CHECK(own_part(thin, thin.image).height == thin.own.height);
}

TEST_CASE("describe_fit says what is cut, padded or stretched", "[pipeline]") {
  CHECK(fitted_as({640, 428}, {.resolution = 256}) == "640x428 -> 256x192, 35 pixels cut left and right");
  CHECK(fitted_as({428, 640}, {.resolution = 256}) == "428x640 -> 192x256, 35 pixels cut top and bottom");
  CHECK(fitted_as({640, 428}, {.resolution = 256, .fit = Fit::pad}) ==
        "640x428 -> 256x192, of which the photograph is 256x171");
  CHECK(fitted_as({640, 428}, {.resolution = 256, .fit = Fit::stretch}) == "640x428 -> 256x192, 11 % narrower");
  CHECK(fitted_as({428, 640}, {.resolution = 256, .fit = Fit::stretch}) == "428x640 -> 192x256, 11 % lower");
  CHECK(fitted_as({640, 428}, {.numerics = Numerics::diffusers}) == "640x428 -> 640x424, 1 % lower");
  CHECK(fitted_as({512, 512}, {}) == "512x512 -> 512x512");
  for (const auto fit : {Fit::crop, Fit::pad, Fit::stretch})
    CHECK(fitted_as({64, 64}, {.resolution = 64, .fit = fit}) == "64x64 -> 64x64");
}

TEST_CASE("At full size, a fitted photograph gives what the photograph gives", "[pipeline]") {
  const auto model = tiny_files();
  const EditPipeline edit{load<ClipTextEncoder>(model), load<KlAutoencoder>(model), load<UNet>(model),
                          diffusion_of(model)};
  const auto photo = tiny_photo(150, 101);
  const RunSettings whole{.steps = 2, .seed = 5, .resolution = 64};
  const auto small = edit(photo, "make it snowy", whole);
  for (const auto fit : {Fit::crop, Fit::pad, Fit::stretch}) {
    const auto fitted = fit_photo(photo, {.resolution = 64, .fit = fit});
    auto settings = whole;
    settings.resolution = fitted.resolution;
    const auto after = edit(fitted.image, "make it snowy", settings);
    const auto large = at_full_size(edit, photo, fitted, {&after, 1}, settings).front();
    CHECK(large.width == 150);
    CHECK(large.height == 101);
    CHECK((large == at_full_size(edit, photo, small, whole)) == (fit == Fit::crop));
  }
}

TEST_CASE("At full size, a masked edit of a fitted photograph leaves the photograph outside of the mask",
          "[pipeline]") {
  const auto model = tiny_files();
  const EditPipeline edit{load<ClipTextEncoder>(model), load<KlAutoencoder>(model), load<UNet>(model),
                          diffusion_of(model)};
  const auto photo = tiny_photo(150, 101);
  Image mask{150, 101, std::vector<std::uint8_t>(150 * 101 * 3)};
  for (std::size_t i = 0; i < mask.pixels.size(); ++i) mask.pixels[i] = i / 3 % 150 < 40 ? 255 : 0;  // the left edge
  const RunSettings whole{.steps = 2, .seed = 5, .resolution = 64};
  const auto small = masked_edit(edit, photo, mask, "make it snowy", whole);
  for (const auto fit : {Fit::crop, Fit::pad, Fit::stretch}) {
    const auto fitted = fit_photo(photo, mask, {.resolution = 64, .fit = fit});
    CHECK(fitted.mask.width == fitted.image.width);
    auto settings = whole;
    settings.resolution = fitted.resolution;
    const auto after = masked_edit(edit, fitted.image, fitted.mask, "make it snowy", settings);
    const auto large = at_full_size(edit, photo, mask, fitted, after, settings);
    REQUIRE(large.pixels.size() == photo.pixels.size());
    bool outside = true, inside = true;
    for (std::size_t i = 0; i < photo.pixels.size(); ++i) {
      (i / 3 % 150 < 40 ? inside : outside) &= large.pixels[i] == photo.pixels[i];
    }
    CHECK(outside);
    CHECK_FALSE(inside);
    CHECK((large == at_full_size(edit, photo, mask, small, whole)) == (fit == Fit::crop));
    CHECK_THROWS_WITH(at_full_size(edit, tiny_photo(149, 101), fitted, {&after, 1}, settings),
                      "photograph: expected 150x101 pixels, as it was fitted with, found 149x101");
    auto unmasked = fitted;
    unmasked.mask = {};
    CHECK_THROWS_WITH(at_full_size(edit, photo, mask, unmasked, after, settings),
                      "mask: expected a photograph that was fitted with one, found none");
  }
  CHECK_THROWS_WITH(fit_photo(photo, tiny_photo(64, 64), {}), Contains("mask: expected the photograph's size 150x101"));
}
