#include <cstdlib>
#include <string>
#include <vector>

#include "ip2p/evaluate/edit_scores.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/vision/clip.hpp"
#include "ip2p/vision/zero_shot.hpp"
#include "vision/golden_clip.hpp"

// Expected values: transformers' CLIPModel and open_clip, by tests/parity/make_clip_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

const std::vector<std::string> captions{"a photograph of a mountain lake", "a watercolour of a mountain lake in winter",
                                        "two dogs", "What if it were 1984? Add 12 red balloons; don't change the sky!"};

Clip tiny(nlohmann::json overrides = nlohmann::json::object(), at::ScalarType dtype = at::kFloat) {
  return load<Clip>(ModelFiles::open(fixture("vision/fixtures/tiny-clip"),
                                     {.tokenizer = fixture("pipeline/fixtures/tiny-ip2p/tokenizer"),
                                      .overrides = std::move(overrides)}),
                    {.dtype = dtype});
}

at::Tensor unit(const at::Tensor& x) { return x / x.norm(2, {1}, true); }

}  // namespace

TEST_CASE("ClipModel equals transformers' CLIPModel", "[vision][parity]") {
  const at::NoGradGuard no_grad;
  const auto clip = tiny();
  const auto file = golden_clip();
  CHECK(max_difference(clip.model().project_texts(file.tensor("input_ids")), file.tensor("text_features")) < 2e-4);
  CHECK(max_difference(clip.model().project_images(file.tensor("processor_pixels")),
                       file.tensor("processor_features")) < 2e-4);
  const auto pixels = file.tensor("released_pixels");
  const auto together = clip.model().project_images(pixels);
  CHECK(max_difference(together, file.tensor("released_features")) < 2e-4);
  for (std::int64_t i = 0; i < 3; ++i) {
    CHECK(max_difference(clip.model().project_images(pixels.narrow(0, i, 1)), together.narrow(0, i, 1)) < 1e-4);
  }
}

TEST_CASE("Clip computes unit features of pictures and texts, in both views", "[vision][parity]") {
  const at::NoGradGuard no_grad;
  const auto clip = tiny();
  const auto file = golden_clip();
  const auto all = golden_pictures();
  CHECK(max_difference(clip.text_features(captions), unit(file.tensor("text_features"))) < 2e-4);
  CHECK(max_difference(clip.image_features(all), unit(file.tensor("released_features"))) < 2e-4);
  CHECK(max_difference(clip.with_view(ClipView::processor).image_features(all),
                       unit(file.tensor("processor_features"))) < 2e-4);
  CHECK_THROWS_WITH(clip.text_features({}), Contains("texts: expected at least one, found none"));
}

TEST_CASE("The end token 2 of older files means the largest id", "[vision][parity]") {
  const at::NoGradGuard no_grad;
  const auto clip = tiny({{"clip", {{"text_config", {{"eos_token_id", 2}}}}}});
  CHECK(clip.model().config().eos_token_id == 2);
  CHECK(max_difference(clip.text_features(captions), unit(golden_clip().tensor("text_features"))) < 2e-4);
}

TEST_CASE("Clip in bf16 stays close to the fp32 reference", "[vision][parity]") {
  const at::NoGradGuard no_grad;
  const auto clip = tiny(nlohmann::json::object(), at::kBFloat16);
  const auto file = golden_clip();
  CHECK(clip.text_features(captions).scalar_type() == at::kFloat);
  CHECK(max_difference(clip.text_features(captions), unit(file.tensor("text_features"))) < 0.03);
  CHECK(max_difference(clip.image_features(golden_pictures()), unit(file.tensor("released_features"))) < 0.03);
}

TEST_CASE("edit_scores equals the released metrics, with their range of images and with the right one",
          "[vision][parity]") {
  const at::NoGradGuard no_grad;
  const auto clip = tiny();
  const auto file = golden_clip();
  const std::span<const std::string> words(captions);
  for (const auto& [name, range] : {std::pair{"compat", ClipRange::compat}, std::pair{"correct", ClipRange::correct}}) {
    const auto scores =
        edit_scores(clip, file.tensor("before"), file.tensor("after"), words.subspan(0, 2), words.subspan(2, 2), range);
    const auto wanted = [&, name = name](const char* which) { return file.tensor(std::string(name) + "_" + which); };
    CHECK(max_difference(scores.direction, wanted("direction")) < 2e-4);
    CHECK(max_difference(scores.image, wanted("image")) < 2e-4);
    CHECK(max_difference(scores.text_before, wanted("text_before")) < 2e-4);
    CHECK(max_difference(scores.text_after, wanted("text_after")) < 2e-4);
  }
  CHECK(max_difference(file.tensor("compat_direction"), file.tensor("correct_direction")) > 1e-2);
}

TEST_CASE("Classes are recognised by their names as with transformers", "[vision][parity]") {
  const at::NoGradGuard no_grad;
  const auto clip = tiny().with_view(ClipView::processor);
  const auto file = golden_clip();
  const std::vector<std::string> classes{"dog", "mountain lake", "red balloon"};
  const std::vector<std::string> templates{"a photo of a {}.", "the {} in winter"};
  CHECK(max_difference(class_features(clip, classes, templates), file.tensor("class_features")) < 2e-4);
  const auto shares = class_probabilities(clip, clip.image_features(golden_pictures()), clip.text_features(captions));
  CHECK(max_difference(shares, file.tensor("probabilities")) < 2e-4);
  const std::vector<std::string> bad{"a photo"};
  CHECK_THROWS_WITH(class_features(clip, classes, bad),
                    Contains("template 'a photo': expected {} where the class goes"));
  CHECK_THROWS_WITH(class_features(clip, {}, templates), Contains("expected classes and templates, found 0 and 2"));
}

TEST_CASE("An OpenCLIP checkpoint computes the same as open_clip", "[vision][parity]") {
  const at::NoGradGuard no_grad;
  const auto path = fixture("vision/fixtures/open-clip/open_clip_model.safetensors");
  const auto file = SafetensorsFile::open(fixture("vision/fixtures/open-clip-expected.safetensors"));
  const auto check = [&](const ClipModel& model, const std::string& suffix) {
    CHECK(max_difference(model.project_images(file.tensor("pixels")), file.tensor("image_features" + suffix)) < 2e-4);
    CHECK(max_difference(model.project_texts(file.tensor("input_ids")), file.tensor("text_features" + suffix)) < 2e-4);
  };
  const auto files = ModelFiles::open(path);
  CHECK_THAT(files.describe(), Contains("OpenCLIP checkpoint"));
  const auto model = load<ClipModel>(files);
  CHECK(model.config().vision.image_size == 24);
  CHECK(model.module().logit_scale.item<float>() == 3.0F);
  check(model, "");
  const nlohmann::json quick{{"hidden_act", "quick_gelu"}};
  check(load<ClipModel>(
            ModelFiles::open(path, {.overrides = {{"clip", {{"text_config", quick}, {"vision_config", quick}}}}})),
        "_quick");
}

TEST_CASE("Seeded CLIPs of full size equal transformers' CLIPModel", "[.][full_size]") {
  const char* named = std::getenv("IP2P_FULL_SIZE_CLIP");
  if (named == nullptr) {
    WARN("skipped: IP2P_FULL_SIZE_CLIP names no folder of make_clip_fixtures.py --full-size");
    return;
  }
  const at::NoGradGuard no_grad;
  const std::filesystem::path folder(named);
  const auto clip = load<Clip>(ModelFiles::open(folder));
  const auto file = SafetensorsFile::open(folder / "expected.safetensors");
  const auto images = file.tensor("image_features"), texts = file.tensor("text_features");
  const auto image_difference = max_difference(clip.model().project_images(file.tensor("pixels")), images);
  const auto text_difference = max_difference(clip.model().project_texts(file.tensor("input_ids")), texts);
  const auto unit_difference = max_difference(clip.text_features(captions), unit(texts));
  WARN(folder.filename() << ": images " << image_difference << " of deviation " << deviation(images) << ", texts "
                         << text_difference << " of deviation " << deviation(texts) << ", unit text features "
                         << unit_difference);
  CHECK(image_difference < 2e-4 * std::max(1.0, deviation(images)));
  CHECK(text_difference < 2e-4 * std::max(1.0, deviation(texts)));
  CHECK(unit_difference < 1e-5);
}
