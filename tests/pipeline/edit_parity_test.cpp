#include <span>
#include <string>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/schedule/karras_sigmas.hpp"
#include "ip2p/schedule/scheduler_config_json.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/reference.hpp"

// Expected values: diffusers' StableDiffusionInstructPix2PixPipeline on the folder tiny-ip2p, by
// tests/parity/make_model_fixtures.py. Its unguided mode, which it enters silently, is NoGuidance here.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

/// One case of the fixture: what the reference was given and what it returned.
struct EditCase {
  explicit EditCase(const std::string& wanted) : name(wanted) {
    for (const auto& entry : read_json(fixture("pipeline/fixtures/edit-cases.json"))) {
      if (entry.at("name") == wanted) settings = entry;
    }
    REQUIRE(!settings.is_null());
    prompts = settings.at("prompts").get<std::vector<std::string>>();
    const auto pixels = tensor("images");
    for (std::int64_t i = 0; i < pixels.size(0); ++i) photos.push_back(from_tensor(pixels[i]));
    options.numerics = Numerics::diffusers;
    options.steps = settings.at("steps").get<std::int64_t>();
    options.negative_prompt = settings.value("negative", "");
    if (settings.value("given", false)) options.latents = tensor("start");
    guidance = DualGuidance{.image_scale = settings.value("image_scale", 1.5),
                            .text_scale = settings.value("text_scale", 7.5)};
  }

  [[nodiscard]] at::Tensor tensor(const std::string& key) const { return file().tensor(name + "." + key); }

  static const SafetensorsFile& file() {
    static const auto opened = SafetensorsFile::open(fixture("pipeline/fixtures/edit-expected.safetensors"));
    return opened;
  }

  std::string name;
  nlohmann::json settings;
  std::vector<std::string> prompts;
  std::vector<Image> photos;
  RunSettings options;
  DualGuidance guidance;
};

template <class Sampler, class Guidance>
auto pipeline(Sampler sampler, Guidance guidance, at::ScalarType dtype = at::kFloat) {
  const auto files = ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p"));
  const LoadOptions options{.dtype = dtype};
  return EditPipeline(load<ClipTextEncoder>(files, options), load<KlAutoencoder>(files, options),
                      load<UNet>(files, options), diffusion_of(files, Numerics::diffusers), sampler, guidance);
}

/// Pictures may differ by one level where a value is next to a rounding boundary, and only in a few places.
void check_pictures(const std::vector<Image>& found, const at::Tensor& expected) {
  REQUIRE(static_cast<std::int64_t>(found.size()) == expected.size(0));
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto difference =
        (to_tensor(found[i]).to(at::kInt) - expected[static_cast<std::int64_t>(i)].to(at::kInt)).abs();
    CHECK(difference.max().item<int>() <= 1);
    CHECK(difference.to(at::kFloat).mean().item<double>() < 0.002);
  }
}

template <class Sampler, class Guidance>
void check_edit(const EditCase& c, Sampler sampler, Guidance guidance) {
  INFO(c.name);
  auto edit = pipeline(sampler, guidance);
  const auto result = edit.run(c.photos, c.prompts, c.options);
  CHECK(max_difference(result.latents, c.tensor("latents")) < 2e-3);
  check_pictures(result.images, c.tensor("edited"));
}

}  // namespace

TEST_CASE("EditPipeline with Euler equals StableDiffusionInstructPix2PixPipeline from the same latents",
          "[pipeline][parity]") {
  for (const auto* name : {"euler", "euler-batch", "euler-negative"}) {
    const EditCase c(name);
    check_edit(c, Euler{}, c.guidance);
  }
}

TEST_CASE("EditPipeline without guidance equals diffusers' unguided mode", "[pipeline][parity]") {
  check_edit(EditCase("euler-unguided"), Euler{}, NoGuidance{});
  // With both scales at 1, only the fully conditioned branch is left: the same result, expressed by numbers.
  check_edit(EditCase("euler-unguided"), Euler{}, DualGuidance{.image_scale = 1.0, .text_scale = 1.0});
}

TEST_CASE("EditPipeline agrees with diffusers after every step", "[pipeline][parity]") {
  const auto check_steps = [](const EditCase& c, auto sampler) {
    INFO(c.name);
    auto edit = pipeline(sampler, c.guidance);
    std::vector<at::Tensor> steps;
    std::vector<double> levels;
    auto options = c.options;
    if (c.settings.contains("seeds")) options.seed = c.settings.at("seeds").get<std::uint64_t>();
    options.hooks.on_step = [&](const Step& step, const at::Tensor& latents) {
      steps.push_back(latents.clone());
      levels.push_back(step.sigma);
    };
    static_cast<void>(edit.run(c.photos, c.prompts, options));

    const auto expected = c.tensor("step_latents");
    const auto sigmas = c.tensor("sigmas");
    const auto timesteps = c.tensor("timesteps");
    REQUIRE(static_cast<std::int64_t>(steps.size()) == expected.size(0));
    const auto& schedule = edit.diffusion.schedule;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      INFO("step " << i);
      const auto row = static_cast<std::int64_t>(i);
      CHECK(max_difference(steps[i], expected[row]) < 2e-3);
      CHECK(levels[i] == Approx(sigmas[row].item<double>()).epsilon(2e-6));
      CHECK(schedule.sigma_to_t(levels[i]) == Approx(timesteps[row].item<double>()).margin(1e-3));
    }
  };
  check_steps(EditCase("euler"), Euler{});
  check_steps(EditCase("ancestral"), EulerAncestral{});
}

TEST_CASE("EditPipeline with Karras noise levels equals diffusers with use_karras_sigmas", "[pipeline][parity]") {
  const EditCase c("karras");
  auto edit = pipeline(Euler{}, c.guidance);
  const auto files = ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p"));
  edit.diffusion.schedule =
      KarrasSigmas::from_config(scheduler_config_from_json(files.config("scheduler"), "scheduler_config.json"));
  TorchNoise unused(0);
  const auto latents = edit.sample(edit.prepare(c.photos, c.options), c.prompts, c.options, unused);
  CHECK(max_difference(latents, c.tensor("latents")) < 2e-3);
}

TEST_CASE("EditPipeline with Euler ancestral draws diffusers' noise from the same seed", "[pipeline][parity]") {
  const EditCase c("ancestral");
  auto edit = pipeline(EulerAncestral{}, c.guidance);
  auto options = c.options;
  options.seed = c.settings.at("seeds").get<std::uint64_t>();
  const auto result = edit.run(c.photos, c.prompts, options);
  CHECK(max_difference(result.latents, c.tensor("latents")) < 2e-3);
  check_pictures(result.images, c.tensor("edited"));
}

TEST_CASE("EditPipeline draws a batch as diffusers does, from one generator or from one for each picture",
          "[pipeline][parity]") {
  const EditCase one("ancestral-batch");
  auto edit = pipeline(EulerAncestral{}, one.guidance);
  TorchNoise noise(one.settings.at("seeds").get<std::uint64_t>());
  const auto latents = edit.sample(edit.prepare(one.photos, one.options), one.prompts, one.options, noise);
  CHECK(max_difference(latents, one.tensor("latents")) < 2e-3);

  const EditCase each("ancestral-seeds");
  auto options = each.options;
  options.seeds = each.settings.at("seeds").get<std::vector<std::uint64_t>>();
  const auto result = edit.run(each.photos, each.prompts, options);
  CHECK(max_difference(result.latents, each.tensor("latents")) < 2e-3);
  check_pictures(result.images, each.tensor("edited"));
}

TEST_CASE("EditPipeline conditions on the unscaled mode of the posterior", "[pipeline][parity]") {
  const EditCase c("euler-batch");
  auto edit = pipeline(Euler{}, c.guidance);
  const at::NoGradGuard no_grad;
  const auto images = edit.prepare(c.photos, c.options);
  CHECK(max_difference(edit.codec().encode(images), c.tensor("image_latents")) < 2e-4);
}

TEST_CASE("EditPipeline edits a batch like its pictures one by one, and gives the same again", "[pipeline]") {
  const EditCase c("euler-batch");
  auto edit = pipeline(Euler{}, c.guidance);
  const auto whole = edit.run(c.photos, c.prompts, c.options);
  for (std::size_t i = 0; i < c.photos.size(); ++i) {
    auto options = c.options;
    options.latents = c.options.latents.narrow(0, static_cast<std::int64_t>(i), 1);
    const auto alone = edit.run(std::span(c.photos).subspan(i, 1), std::span(c.prompts).subspan(i, 1), options);
    CHECK(max_difference(alone.latents, whole.latents.narrow(0, static_cast<std::int64_t>(i), 1)) < 2e-3);
  }
  CHECK(edit.run(c.photos, c.prompts, c.options).latents.equal(whole.latents));
}

TEST_CASE("EditPipeline in bf16 stays close to the fp32 reference", "[pipeline][parity]") {
  const EditCase c("euler");
  auto edit = pipeline(Euler{}, c.guidance, at::kBFloat16);
  const auto result = edit.run(c.photos, c.prompts, c.options);
  CHECK(relative_rms(result.latents, c.tensor("latents")) < 0.03);
}
