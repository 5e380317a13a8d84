#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ip2p/core/shared_noise.hpp"
#include "ip2p/pipeline/inpaint.hpp"
#include "ip2p/pipeline/latent_walk.hpp"
#include "ip2p/pipeline/sdedit.hpp"
#include "ip2p/pipeline/text_to_image.hpp"
#include "ip2p/pipeline/two_pass.hpp"
#include "ip2p/sampling/any_sampler.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"
#include "support/reference.hpp"

// Expected values: diffusers' pipelines on the folder tiny-ip2p, by tests/parity/make_generation_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

const RunSettings quick_pictures{.steps = 3, .seed = 5, .resolution = 64};

/// One case of the fixture: what the reference was given and what it returned.
struct GenerationCase {
  explicit GenerationCase(nlohmann::json settings_) : settings(std::move(settings_)), name(settings.at("name")) {
    prompts = settings.at("prompts").get<std::vector<std::string>>();
  }
  [[nodiscard]] at::Tensor tensor(const std::string& key) const {
    static const auto file = SafetensorsFile::open(fixture("pipeline/fixtures/generation-expected.safetensors"));
    return file.tensor(name + "." + key);
  }
  /// Largest difference of the latents, relative to their deviation.
  [[nodiscard]] double difference(const at::Tensor& found) const {
    return max_difference(found, tensor("latents")) / deviation(tensor("latents"));
  }
  nlohmann::json settings;
  std::string name;
  std::vector<std::string> prompts;
};

std::vector<GenerationCase> generation_cases(const std::string& kind) {
  std::vector<GenerationCase> found;
  for (const auto& entry : read_json(fixture("pipeline/fixtures/generation-cases.json"))) {
    if (entry.at("kind") == kind) found.emplace_back(entry);
  }
  return found;
}

SchedulerConfig tiny_scheduler() { return {.steps_offset = 1}; }

/// The pipeline that `make` builds from the tiny models, with the case's sampler.
template <class Make>
auto over_models(const GenerationCase& c, std::int64_t channels, Make&& make) {
  const auto files = tiny_files();
  return make(load<ClipTextEncoder>(files), load<KlAutoencoder>(files), tiny_unet(channels),
              diffusion_of(tiny_scheduler(), Numerics::diffusers),
              AnySampler::named(c.settings.at("sampler").get<std::string>()), TextGuidance{7.5});
}

/// A noise source that can be moved but not copied, and counts its draws.
class MovedNoise {
 public:
  MovedNoise(std::uint64_t seed, std::vector<std::int64_t>* draws)
      : noise_(std::make_unique<TorchNoise>(seed)), draws_(draws) {}
  at::Tensor normal(at::IntArrayRef shape, std::int64_t draw) {
    draws_->push_back(draw);
    return noise_->normal(shape, draw);
  }

 private:
  std::unique_ptr<TorchNoise> noise_;
  std::vector<std::int64_t>* draws_;
};
static_assert(!std::copy_constructible<MovedNoise>);

bool same_outside(const Image& a, const Image& b, const Image& mask) {
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    if (mask.pixels[i] == 0 && a.pixels[i] != b.pixels[i]) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("Text to image equals StableDiffusionPipeline", "[pipeline][parity]") {
  std::size_t compared = 0;
  for (const auto& c : generation_cases("text")) {
    INFO(c.name);
    auto generate = over_models(c, 4, [](auto... parts) { return TextToImagePipeline(parts...); });
    const auto result =
        generate.run(c.prompts, RunSettings{.steps = c.settings.at("steps").get<std::int64_t>(),
                                            .seed = c.settings.at("seed"),
                                            .negative_prompt = c.settings.value("negative", ""),
                                            .size = Size{c.settings.at("size")[0], c.settings.at("size")[1]},
                                            .numerics = Numerics::diffusers});
    CHECK(c.difference(result.latents) < 2e-4);
    CHECK(result.images.front().width == c.settings.at("size")[0]);
    ++compared;
  }
  CHECK(compared == 2);
}

TEST_CASE("SDEdit equals StableDiffusionImg2ImgPipeline", "[pipeline][parity]") {
  std::size_t compared = 0;
  for (const auto& c : generation_cases("image")) {
    INFO(c.name);
    auto pipeline = over_models(c, 4, [](auto... parts) { return TextToImagePipeline(parts...); });
    const std::vector<Image> photos{from_tensor(c.tensor("photo"))};
    const auto result = sdedit(pipeline, photos, c.prompts, {.strength = c.settings.at("strength")},
                               {.steps = c.settings.at("steps").get<std::int64_t>(),
                                .seed = c.settings.at("seed"),
                                .numerics = Numerics::diffusers});
    CHECK(c.difference(result.latents) < 2e-4);
    ++compared;
  }
  CHECK(compared == 2);
}

TEST_CASE("Inpainting equals StableDiffusionInpaintPipeline with 4 and with 9 channels", "[pipeline][parity]") {
  std::size_t compared = 0;
  for (const auto& c : generation_cases("inpaint")) {
    INFO(c.name);
    auto pipeline = over_models(c, c.settings.at("channels"), [](auto... parts) { return InpaintPipeline(parts...); });
    const std::vector<Image> photo{from_tensor(c.tensor("photo"))};
    const auto mask = mask_tensor(from_tensor(c.tensor("mask")), std::nullopt, Numerics::diffusers);
    TorchNoise noise(c.settings.at("seed").get<std::uint64_t>());
    const auto latents = pipeline.sample(prepare_photos(photo, std::nullopt, Numerics::diffusers), mask, c.prompts,
                                         c.settings.at("strength").get<double>(),
                                         {.steps = c.settings.at("steps").get<std::int64_t>()}, noise);
    CHECK(c.difference(latents) < 2e-4);
    ++compared;
  }
  CHECK(compared == 4);
}

TEST_CASE("Text to image depends only on its arguments, and a batch equals its pictures", "[pipeline]") {
  auto generate = tiny_text_to_image();
  const std::vector<std::string> prompts{"a boat", "a red balloon"};
  const auto both = generate.run(prompts, quick_pictures);
  auto second = quick_pictures;
  second.seed = quick_pictures.seed + 1;
  CHECK(max_difference(both.latents.narrow(0, 1, 1), generate.run({&prompts[1], 1}, second).latents) <
        1e-4 * deviation(both.latents));
  CHECK(generate("a boat", quick_pictures) == generate("a boat", quick_pictures));
  CHECK_FALSE(generate("a boat", quick_pictures) == generate("a boat", second));
  auto negative = quick_pictures;
  negative.negative_prompt = "grey";
  CHECK_FALSE(generate("a boat", quick_pictures) == generate("a boat", negative));
}

TEST_CASE("Text to image refuses models and sizes that do not fit", "[pipeline]") {
  const auto files = tiny_files();
  const auto text = load<ClipTextEncoder>(files);
  const auto codec = load<KlAutoencoder>(files);
  CHECK_THROWS_WITH((TextToImagePipeline{text, codec, tiny_unet(8), diffusion_of(tiny_files())}),
                    Contains("expected a UNet with 4 input channels, found 8") && Contains("use EditPipeline"));
  CHECK_THROWS_WITH((TextToImagePipeline{text, codec, tiny_unet(9), diffusion_of(tiny_files())}),
                    Contains("use InpaintPipeline"));
  CHECK_THROWS_WITH((InpaintPipeline{text, codec, tiny_unet(8), diffusion_of(tiny_files())}),
                    Contains("4 input channels, or 9"));
  auto generate = tiny_text_to_image();
  auto options = quick_pictures;
  options.size = Size{60, 64};
  CHECK_THROWS_WITH(generate("a boat", options), Contains("size: expected positive multiples of 8, found 60x64"));
  options = quick_pictures;
  options.latents = at::randn({1, 4, 8, 7});
  CHECK_THROWS_WITH(generate("a boat", options), Contains("latents: expected [1, 4, 8, 8], found [1, 4, 8, 7]"));
  CHECK_THROWS_WITH(generate.run({}, quick_pictures), Contains("prompts: expected at least one"));
}

TEST_CASE("SDEdit keeps more of the photograph at less strength", "[pipeline]") {
  auto pipeline = tiny_text_to_image(Euler{});
  const auto photo = tiny_photo();
  const auto clean = pipeline.clean_latents(prepare_photos({&photo, 1}, 64, Numerics::released));
  const auto distance = [&](double strength) {
    const std::vector<std::string> prompts{"a boat"};
    const auto result = sdedit(pipeline, {&photo, 1}, prompts, {.strength = strength, .posterior_sample = false},
                               {.steps = 10, .resolution = 64});
    return max_difference(result.latents, clean);
  };
  CHECK(distance(0.1) < distance(0.5));
  CHECK(distance(0.5) < distance(1.0));
  CHECK(steps_for_strength(0.65, 10) == 6);
  CHECK(steps_for_strength(1.0, 7) == 7);
  CHECK_THROWS_WITH(steps_for_strength(0.05, 10),
                    Contains("strength: expected at least 1 of 10 steps to run, found 0"));
  CHECK_THROWS_WITH(steps_for_strength(1.5, 10), Contains("strength: expected a value in [0, 1], found 1.5"));
  const std::vector<std::string> three(3, "a boat");
  const std::vector<Image> two(2, photo);
  CHECK_THROWS_WITH(sdedit(pipeline, two, three), Contains("one photograph for all prompts or one each"));
}

TEST_CASE("A masked edit leaves everything outside the mask unchanged", "[pipeline]") {
  const auto files = tiny_files();
  EditPipeline edit{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), load<UNet>(files), diffusion_of(files)};
  const auto photo = tiny_photo();
  const auto mask = tiny_mask();
  const auto result = masked_edit(edit, photo, mask, "make it snowy", {.steps = 4, .resolution = 64});
  CHECK(same_outside(result, photo, mask));
  CHECK_FALSE(result == photo);
  CHECK_THROWS_WITH(masked_edit(edit, photo, tiny_mask(32, 32), "make it snowy"),
                    Contains("mask: expected the photograph's size 64x64, found 32x32"));
}

TEST_CASE("A masked edit requests each draw of noise once, whatever the source", "[pipeline]") {
  const auto files = tiny_files();
  EditPipeline edit{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), load<UNet>(files), diffusion_of(files)};
  const RunSettings settings{.steps = 4, .seed = 9, .resolution = 64};
  std::vector<std::int64_t> draws;
  MovedNoise noise(9, &draws);
  const auto result = masked_edit(edit, tiny_photo(), tiny_mask(), "make it snowy", settings, noise);
  CHECK(draws == std::vector<std::int64_t>{0, 1, 2, 3});  // the last step of Euler ancestral adds none
  CHECK(result == masked_edit(edit, tiny_photo(), tiny_mask(), "make it snowy", settings));
  // Outside the mask, the latents keep the noise that the run began with.
  const auto kept = [&](const Step& step, const at::Tensor& x) {
    const auto clean = edit.clean_latents(edit.prepare({std::array{tiny_photo()}}, settings));
    const auto start = TorchNoise(9).normal(clean.sizes(), 0);
    CHECK(max_difference(x.narrow(3, 0, 4), clean.add(start, step.sigma_next).narrow(3, 0, 4)) < 1e-4);
  };
  auto watched = settings;
  watched.hooks.on_step = kept;
  static_cast<void>(masked_edit(edit, tiny_photo(), tiny_mask(), "make it snowy", watched));
}

TEST_CASE("Inpainting pastes the photograph's own pixels outside the mask", "[pipeline]") {
  const auto files = tiny_files();
  InpaintPipeline pipeline{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), tiny_unet(4), diffusion_of(files)};
  const auto photo = tiny_photo();
  const auto mask = tiny_mask();
  const RunSettings settings{.steps = 4, .resolution = 64};
  const auto pasted = pipeline(photo, mask, "a cat", {}, settings);
  CHECK(same_outside(pasted, photo, mask));
  CHECK_FALSE(pasted == photo);
  CHECK_FALSE(same_outside(pipeline(photo, mask, "a cat", {.paste = false}, settings), photo, mask));
}

TEST_CASE("Two passes end at the larger size", "[pipeline]") {
  auto generate = tiny_text_to_image();
  const auto large = two_pass(generate, "a boat", quick_pictures, {.factor = 1.5, .steps = 4});
  CHECK((large.width == 96 && large.height == 96));
  CHECK_THROWS_WITH(two_pass(generate, "a boat", quick_pictures, {.factor = 1.0}),
                    Contains("expected a factor in (1, 8]"));
}

TEST_CASE("A latent walk begins and ends with the pictures of its seeds", "[pipeline]") {
  auto generate = tiny_text_to_image();
  const auto frames = latent_walk(generate, "a boat", 9, 3, quick_pictures);
  REQUIRE(frames.size() == 3);
  CHECK(frames.front() == generate("a boat", quick_pictures));
  auto other = quick_pictures;
  other.seed = 9;
  // Ancestral noise stays that of the first seed.
  other.latents = TorchNoise(9).normal({1, 4, 8, 8}, 0);
  other.seed = quick_pictures.seed;
  CHECK(frames.back() == generate("a boat", other));
  CHECK_FALSE(frames[1] == frames[0]);

  const auto a = TorchNoise(1).normal({2, 4, 16, 16}, 0);
  const auto b = TorchNoise(2).normal({2, 4, 16, 16}, 0);
  // Halfway along the arc between independent noises, the norm is still that of noise; halfway along the line it is
  // not.
  CHECK(deviation(slerp(a, b, 0.5)) == Approx(1.0).margin(0.05));
  CHECK(max_difference(slerp(a, a, 0.3), a) < 1e-6);
  CHECK_THROWS_WITH(slerp(a, b, 1.2), Contains("slerp: expected a share in [0, 1]"));
}

TEST_CASE("Shared noise repeats each draw within its group", "[core]") {
  SharedNoise shared(CounterNoise(3), 2);
  const auto rows = shared.normal({4, 2, 2}, 1);
  const auto drawn = CounterNoise(3).normal({2, 2, 2}, 1);
  CHECK(at::equal(rows[0], drawn[0]));
  CHECK(at::equal(rows[1], drawn[0]));
  CHECK(at::equal(rows[3], drawn[1]));
  CHECK_THROWS_WITH(shared.normal({3, 2}, 0), Contains("expected rows in groups of 2, found 3"));
}
