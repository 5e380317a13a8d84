#include "ip2p/pipeline/full_size.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/upsampling/enlarged.hpp"
#include "ip2p/upsampling/no_upsampling.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"

namespace {

using namespace ip2p;
using ip2p::testing::tiny_files;
using ip2p::testing::tiny_photo;

auto full_size_editor() {
  const auto model = tiny_files();
  return EditPipeline{load<ClipTextEncoder>(model), load<KlAutoencoder>(model), load<UNet>(model), diffusion_of(model)};
}

/// Counts what the codec that it stands for decodes.
struct CountingCodec : KlAutoencoder {
  explicit CountingCodec(const KlAutoencoder& codec) : KlAutoencoder(codec) {}
  [[nodiscard]] at::Tensor decode(const at::Tensor& latents) const {
    ++*decodes;
    return KlAutoencoder::decode(latents);
  }
  std::shared_ptr<int> decodes = std::make_shared<int>(0);
};

const RunSettings full_size_run{.steps = 2, .seed = 5, .resolution = 64};

}  // namespace

TEST_CASE("An edit at full size has the photograph's size, and the model's picture is as without it", "[pipeline]") {
  const auto edit = full_size_editor();
  const auto photo = tiny_photo(150, 101);
  const auto small = edit(photo, "make it snowy", full_size_run);
  const auto large = edit_at_full_size(edit, photo, "make it snowy", full_size_run);
  CHECK(large.width == 150);
  CHECK(large.height == 101);
  CHECK(large != photo);
  CHECK(large == at_full_size(edit, photo, small, full_size_run));
  CHECK(edit_at_full_size(edit, photo, "make it snowy", full_size_run, NoUpsampling{}) == small);
  const auto enlarged = edit_at_full_size(edit, photo, "make it snowy", full_size_run, Enlarged{});
  CHECK(enlarged == Enlarged{}(photo, {{}, small, seen_part({150, 101}, 64, Numerics::released)}));
}

TEST_CASE("model_edit holds the codec's round trip of what the model saw", "[pipeline]") {
  const auto edit = full_size_editor();
  const auto photo = tiny_photo(150, 101);
  for (const auto numerics : {Numerics::released, Numerics::diffusers}) {
    auto settings = full_size_run;
    settings.numerics = numerics;
    const auto small = edit(photo, "make it snowy", settings);
    const auto found = model_edit<BilateralGuidedUpsampling>(edit, photo, small, settings);
    CHECK(found.after == small);
    const auto latents = edit.clean_latents(edit.prepare({&photo, 1}, settings));
    CHECK(found.before == edit.decode(latents, rounding_of(numerics)).front());
    const bool cropped = numerics == Numerics::released;
    CHECK(found.seen.left == (cropped ? 24.5F : 0.0F));
    CHECK(found.seen.right == (cropped ? 125.5F : 150.0F));
    CHECK(found.seen.bottom == 101.0F);
    CHECK(model_edit<Enlarged>(edit, photo, small, settings).before == Image{});
  }
}

TEST_CASE("Pictures of one photograph share the codec's round trip", "[pipeline]") {
  const auto model = tiny_files();
  const CountingCodec codec(load<KlAutoencoder>(model));
  const EditPipeline edit{load<ClipTextEncoder>(model), codec, load<UNet>(model), diffusion_of(model)};
  const auto photo = tiny_photo(150, 101);
  const auto small = edit(photo, "make it snowy", full_size_run);
  const auto unedited = edit(photo, "", full_size_run);
  auto darker = small;
  for (auto& value : darker.pixels) value /= 2;
  *codec.decodes = 0;
  const std::vector<Image> three{unedited, small, darker};
  const auto together = at_full_size(edit, photo, three, full_size_run);
  CHECK(*codec.decodes == 1);
  REQUIRE(together.size() == 3);
  CHECK(together[0] == photo);
  for (const std::size_t i : {1, 2}) CHECK(together[i] == at_full_size(edit, photo, three[i], full_size_run));
  CHECK(*codec.decodes == 3);
  CHECK(at_full_size(edit, photo, std::vector<Image>{unedited, unedited}, full_size_run).back() == photo);
  CHECK(*codec.decodes == 3);
  CHECK(at_full_size(edit, photo, three, full_size_run, Enlarged{}).size() == 3);
  CHECK(*codec.decodes == 3);
}

TEST_CASE("Where the model gives the photograph back, the result is the photograph", "[pipeline]") {
  const auto edit = full_size_editor();
  const auto photo = tiny_photo(150, 101);
  CHECK(edit_at_full_size(edit, photo, "", full_size_run) == photo);
}

TEST_CASE("Pictures of other pipelines reach full size", "[pipeline]") {
  const auto pipeline = ip2p::testing::tiny_text_to_image();
  const auto photo = tiny_photo(130, 130);
  const auto small = sdedit(pipeline, photo, "a lake", {.strength = 0.5}, {.steps = 4, .resolution = 64});
  const auto large = at_full_size(pipeline, photo, small, {.resolution = 64});
  CHECK(large.width == 130);
  CHECK(large.height == 130);
}

TEST_CASE("Outside of a mask, the result at full size is the photograph, bit for bit", "[pipeline]") {
  const auto edit = full_size_editor();
  const auto photo = tiny_photo(150, 101);
  Image mask{150, 101, std::vector<std::uint8_t>(photo.pixels.size())};
  for (std::int64_t y = 30; y < 70; ++y) {
    for (std::int64_t x = 50; x < 100; ++x) {
      for (std::int64_t k = 0; k < 3; ++k) mask.pixels[static_cast<std::size_t>((y * 150 + x) * 3 + k)] = 255;
    }
  }
  const auto small = masked_edit(edit, photo, mask, "make it snowy", full_size_run);
  const auto result = at_full_size(edit, photo, mask, small, full_size_run);
  std::int64_t changed = 0;
  for (std::size_t i = 0; i < mask.pixels.size(); ++i) {
    if (mask.pixels[i] == 0) {
      REQUIRE(result.pixels[i] == photo.pixels[i]);
    } else {
      changed += result.pixels[i] != photo.pixels[i];
    }
  }
  CHECK(changed > 1000);
  CHECK_THROWS_WITH(at_full_size(edit, photo, tiny_photo(4, 4), small, full_size_run),
                    "mask: expected the photograph's size 150x101, found 4x4");
}

TEST_CASE("A picture of another size is refused", "[pipeline]") {
  const auto edit = full_size_editor();
  CHECK_THROWS_WITH(at_full_size(edit, tiny_photo(150, 101), tiny_photo(32, 32), full_size_run),
                    "edited picture: expected 64x64, the size at which the settings edit the photograph, found 32x32");
}
