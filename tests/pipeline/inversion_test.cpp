#include "ip2p/pipeline/inversion.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <stop_token>
#include <string>
#include <tuple>
#include <vector>

#include "ip2p/codec/identity_codec.hpp"
#include "ip2p/pipeline/null_text.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"
#include "support/reference.hpp"

// Expected values: DDIM inversion and null-text optimisation over diffusers' models and scheduler, by
// tests/parity/make_inversion_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

at::Tensor expected(const std::string& key) {
  static const auto file = SafetensorsFile::open(fixture("pipeline/fixtures/inversion-expected.safetensors"));
  return file.tensor(key);
}

std::vector<Image> photos(const std::string& name) {
  std::vector<Image> result;
  for (const auto& pixels : expected(name + ".photos").unbind(0)) result.push_back(from_tensor(pixels));
  return result;
}

/// Largest difference, relative to the deviation of the expected values.
double difference(const at::Tensor& found, const at::Tensor& wanted) {
  return max_difference(found, wanted) / deviation(wanted);
}

/// Latents of a trajectory in the papers' convention.
at::Tensor variance_preserving(const Inversion& inversion, std::int64_t i) {
  const double level = inversion.levels[static_cast<std::size_t>(i)];
  return inversion.trajectory[i].div(std::sqrt(1.0 + level * level));
}

/// A UNet through which no gradients flow.
struct WithoutGradients : UNet {
  explicit WithoutGradients(UNet unet) : UNet(std::move(unet)) {}
  template <class Attention = PlainAttention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend = {}, const Step& step = {}) const {
    return UNet::operator()(x, times, texts, attend, step).detach();
  }
};

/// What a network would predict for latents that are normal with variance 0.1, which has a closed form.
struct GaussianLatents {
  [[nodiscard]] TimeProjections project_time(const at::Tensor& t) const { return {t.view({-1, 1, 1, 1})}; }
  [[nodiscard]] ContextProjections project_context(const at::Tensor& /*context*/) const { return {}; }
  template <AttentionPolicy Attention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& /*texts*/,
                        const Attention& /*attend*/, const Step& /*step*/) const {
    const auto alpha = schedule.alphas_cumprod()[static_cast<std::size_t>(std::lround(times[0].item<double>()))];
    return x * (std::sqrt(1.0 - alpha) / (0.1 * alpha + 1.0 - alpha));
  }
  [[nodiscard]] std::int64_t in_channels() const { return 3; }
  [[nodiscard]] at::Device device() const { return at::kCPU; }
  [[nodiscard]] at::ScalarType dtype() const { return at::kFloat; }
  DiscreteSchedule schedule{};
};

struct Wordless {
  [[nodiscard]] at::Tensor encode(std::span<const std::string> prompts) const {
    return at::zeros({static_cast<std::int64_t>(prompts.size()), 2, 4});
  }
};

const std::string prompt = "a cat on the grass";

}  // namespace

TEST_CASE("invert follows the published trajectory and returns as DDIM does", "[pipeline][parity]") {
  auto pipeline = tiny_inverter();
  const auto check = [&](const std::string& name, const std::vector<std::string>& prompts, std::int64_t steps,
                         const InversionOptions& options = {}) {
    INFO(name);
    const auto inversion =
        invert(pipeline, photos(name), prompts, options, {.steps = steps, .numerics = Numerics::diffusers});
    REQUIRE(inversion.steps() == steps);
    const auto trajectory = expected(name + ".trajectory");
    const auto stride = steps / 8 + 1;  // the fixture holds only these
    REQUIRE(trajectory.size(0) == steps / stride + 1);
    for (std::int64_t i = 0; i < trajectory.size(0); ++i) {
      INFO("level " << i * stride);
      CHECK(difference(variance_preserving(inversion, i * stride), trajectory[i]) < 1e-4);
    }
    const auto back = expected(name + ".reconstruction");
    CHECK(difference(inversion.reconstruction, back) < 3e-4);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i);
      const auto error = (back - inversion.clean().cpu())[row].square().mean().item<double>();
      CHECK(inversion.latent_mse[i] == Approx(error).epsilon(2e-3));
      CHECK(inversion.psnr[i] == Approx(expected(name + ".psnr")[row].item<double>()).margin(0.01));
      CHECK(inversion.codec_psnr[i] == Approx(expected(name + ".codec_psnr")[row].item<double>()).margin(0.01));
    }
  };
  check("published", {"a red balloon"}, 50);
  check("batch", {"a snowy hill", prompt}, 8);
  check("alpha-one", {"a red balloon"}, 8, {.set_alpha_to_one = true});
}

TEST_CASE("The levels of an inversion are those of DDIM with an offset of 1 and its last alpha", "[pipeline]") {
  auto pipeline = tiny_inverter();
  const auto clean = at::randn({1, 4, 8, 8});
  const auto inversion = invert(pipeline, clean, {{prompt}}, {}, {.steps = 4});
  const auto schedule = ddim_schedule({});
  REQUIRE(inversion.levels.size() == 5);
  for (const auto& [i, t] : {std::pair{0, 751}, {1, 501}, {2, 251}, {3, 1}, {4, 0}}) {
    CHECK(inversion.levels[static_cast<std::size_t>(i)] ==
          schedule.training.training_sigmas()[static_cast<std::size_t>(t)]);
  }
  CHECK(max_difference(inversion.clean(), clean) < 1e-6);
  CHECK(inversion.sigmas().back() == 0.0);
  CHECK(inversion.images.empty());
  CHECK(inversion.psnr.empty());
  CHECK(invert(pipeline, clean, {{prompt}}, {.set_alpha_to_one = true}, {.steps = 4}).levels.back() == 0.0);
}

TEST_CASE("A DDIM step is the same whichever quantity the network predicts", "[pipeline]") {
  const auto x = at::randn({2, 4, 3, 3}), noise = at::randn({2, 4, 3, 3});
  for (const auto& [from, to] : {std::pair{0.7, 2.0}, std::pair{3.0, 0.1}}) {
    const auto wanted = x + noise * (to - from);
    const auto clean = x - noise * from;
    const auto v = (noise - clean * from) / std::sqrt(1.0 + from * from);
    using enum PredictionType;
    CHECK(max_difference(ip2p::detail::ddim_step(x, noise, AnyPrediction{epsilon}, from, to), wanted) < 1e-5);
    CHECK(max_difference(ip2p::detail::ddim_step(x, v, AnyPrediction{v_prediction}, from, to), wanted) < 1e-5);
    CHECK(max_difference(ip2p::detail::ddim_step(x, clean, AnyPrediction{sample}, from, to), wanted) < 1e-5);
  }
  const auto wanted = x + noise * 0.5;  // without noise v is the noise
  CHECK(max_difference(ip2p::detail::ddim_step(x, noise, AnyPrediction{PredictionType::epsilon}, 0.0, 0.5), wanted) <
        1e-6);
  CHECK(max_difference(ip2p::detail::ddim_step(x, noise, AnyPrediction{PredictionType::v_prediction}, 0.0, 0.5),
                       wanted) < 1e-6);
  CHECK_THROWS_WITH(ip2p::detail::ddim_step(x, noise, AnyPrediction{PredictionType::sample}, 0.0, 0.5),
                    Contains("expected a model that predicts noise or v") && Contains("found one that predicts x0"));
}

TEST_CASE("The error of an inversion halves if its steps double", "[pipeline]") {
  // Expected: the published recurrence for numbers, computed independently of this library.
  TextToImagePipeline pipeline{Wordless{}, IdentityCodec{}, GaussianLatents{},
                               Diffusion{ddim_schedule({}), EpsPrediction{}}};
  const auto photo = at::full({1, 3, 2, 2}, 0.25);
  for (const auto& [steps, start, error] :
       {std::tuple{25L, 3.0222, -0.16600}, {50L, 3.1114, -0.08251}, {100L, 3.1383, -0.04055}}) {
    INFO(steps << " steps");
    const auto inversion = invert(pipeline, photo, {{prompt}}, {}, {.steps = steps});
    CHECK((variance_preserving(inversion, 0) / photo).mean().item<double>() == Approx(start).epsilon(1e-4));
    const auto factor = (inversion.reconstruction / photo).mean().item<double>();
    CHECK(factor - 1.0 == Approx(error).margin(2e-5));
    CHECK(inversion.latent_mse[0] == Approx(std::pow(0.25 * error, 2)).epsilon(2e-3));
  }
}

TEST_CASE("Photographs inverted together equal those inverted alone, and repeating gives the same", "[pipeline]") {
  auto pipeline = tiny_inverter();
  const auto clean = at::randn({2, 4, 8, 6}) * 0.3;
  const std::vector<std::string> prompts{"a snowy hill", prompt};
  const RunSettings settings{.steps = 4};
  const auto together = invert(pipeline, clean, prompts, {}, settings);
  CHECK(at::equal(invert(pipeline, clean, prompts, {}, settings).trajectory, together.trajectory));
  const auto texts = null_text(pipeline, together, {.inner_steps = 2});
  REQUIRE(texts.texts.sizes() == at::IntArrayRef({4, 2, 77, 32}));
  for (std::int64_t i = 0; i < 2; ++i) {
    const auto alone = invert(pipeline, clean.narrow(0, i, 1), {{prompts[static_cast<std::size_t>(i)]}}, {}, settings);
    CHECK(difference(alone.trajectory, together.trajectory.narrow(1, i, 1)) < 1e-4);
    CHECK(alone.latent_mse[0] == Approx(together.latent_mse[static_cast<std::size_t>(i)]).epsilon(1e-2));
    const auto own = null_text(pipeline, alone, {.inner_steps = 2});
    CHECK(difference(own.reconstruction, texts.reconstruction.narrow(0, i, 1)) < 1e-3);
  }
}

TEST_CASE("invert says what it cannot accept, reports its steps and stops on request", "[pipeline]") {
  auto pipeline = tiny_inverter();
  const auto clean = at::zeros({2, 4, 8, 8});
  CHECK_THROWS_WITH(invert(pipeline, at::zeros({2, 3, 8, 8}), {{prompt}}),
                    "invert: expected latents [B,4,h,w], found [2, 3, 8, 8]");
  CHECK_THROWS_WITH(invert(pipeline, clean, {{prompt}}),
                    "invert: expected one prompt for each of 2 photographs, found 1");
  CHECK_THROWS_WITH(invert(pipeline, clean, {{prompt, prompt}}, {}, {.steps = 0}),
                    Contains("steps: expected at least 1, found 0"));

  std::vector<double> rises;
  std::stop_source stop;
  RunSettings settings{.steps = 5};
  settings.hooks.stop = stop.get_token();
  settings.hooks.on_step = [&](const Step& step, const at::Tensor&) {
    rises.push_back(step.sigma_next - step.sigma);
    if (step.index == 2) stop.request_stop();
  };
  CHECK_THROWS_AS(invert(pipeline, clean, {{prompt, prompt}}, {}, settings), Cancelled);
  REQUIRE(rises.size() == 3);
  for (const auto rise : rises) CHECK(rise > 0.0);
}

TEST_CASE("null_text equals the published optimisation", "[pipeline][parity]") {
  auto pipeline = tiny_inverter();
  const auto inversion =
      invert(pipeline, photos("null"), {{prompt}}, {}, {.steps = 4, .numerics = Numerics::diffusers});
  const auto check = [&](const std::string& name, const NullTextOptions& settings) {
    INFO(name);
    const auto found = null_text(pipeline, inversion, settings);
    const auto losses = expected(name + ".losses");
    REQUIRE(found.losses.sizes() == at::IntArrayRef({1, 4, settings.inner_steps}));
    CHECK(at::equal(found.losses[0].isnan(), losses.isnan()));  // stops at the same updates
    CHECK(max_difference((found.losses[0] / losses).nan_to_num(1.0), at::ones_like(losses)) < 1e-4);
    // Adam's first updates are as large as the learning rate whatever the gradient, so where the gradient is nearly 0,
    // its rounding shows. The reference itself moves by 1e-5 (mean) and 2e-4 (latents) between fp32 and fp64.
    const auto texts = expected(name + ".texts");  // of the first and the last step
    CHECK(relative_rms(found.texts[0], texts[0]) < 1e-3);
    CHECK(relative_rms(found.texts[3], texts[1]) < 1e-3);
    CHECK(difference(found.reconstruction, expected(name + ".reconstruction")) < 3e-3);
    CHECK(found.latent_mse[0] == ip2p::detail::mse_by_sample(found.reconstruction, inversion.clean())[0]);
    return found;
  };
  check("null", {});
  check("null-early", {.inner_steps = 6, .tolerance = 0.29, .tolerance_growth = 0.52});
}

TEST_CASE("null_text keeps the guided run on the photograph, and a run can use its texts", "[pipeline]") {
  auto pipeline = tiny_inverter();
  const auto inversion = invert(pipeline, at::randn({1, 4, 8, 8}) * 0.3, {{prompt}}, {}, {.steps = 4});
  const auto found = null_text(pipeline, inversion);
  auto text = pipeline.encode_text(inversion.prompts);
  const auto error = [&](const Conditioning& conditioning) {
    const auto back =
        ip2p::detail::run_back(pipeline, inversion.trajectory[0], inversion, conditioning, pipeline.guidance, {});
    return ip2p::detail::mse_by_sample(back, inversion.clean())[0];
  };
  const auto before = error(text);
  text.null_text = found.texts;
  const auto after = error(text);
  CHECK(after < 0.7 * before);
  CHECK(after == Approx(found.latent_mse[0]).epsilon(1e-4));
}

TEST_CASE("null_text works with weights for inference and gives no weight a gradient", "[pipeline]") {
  const auto files = tiny_files();
  auto trainable = tiny_unet(4);
  auto frozen = tiny_unet(4);
  frozen.freeze();
  const Diffusion published{ddim_schedule({}), EpsPrediction{}};
  TextToImagePipeline plain{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), trainable, published};
  TextToImagePipeline packed{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), frozen, published};
  const auto clean = at::randn({1, 4, 8, 8}) * 0.3;
  const auto inversion = invert(plain, clean, {{prompt}}, {}, {.steps = 3});
  const NullTextOptions options{.inner_steps = 3};
  const auto expected_texts = null_text(plain, inversion, options);
  const auto found = null_text(packed, inversion, options);
  CHECK(difference(found.texts, expected_texts.texts) < 1e-3);
  CHECK(max_difference(found.losses / expected_texts.losses, at::ones_like(found.losses)) < 1e-4);
  for (const auto& parameter : trainable.module().parameters()) CHECK_FALSE(parameter.grad().defined());
  // Packed weights are unchanged.
  CHECK(difference(invert(packed, clean, {{prompt}}, {}, {.steps = 3}).trajectory, inversion.trajectory) < 1e-4);
}

TEST_CASE("null_text says what it cannot accept and stops on request", "[pipeline]") {
  auto pipeline = tiny_inverter();
  auto inversion = invert(pipeline, at::zeros({1, 4, 8, 8}), {{prompt}}, {}, {.steps = 2});
  CHECK_THROWS_WITH(null_text(pipeline, inversion, {.inner_steps = 0}),
                    "null_text: expected inner_steps >= 1, found 0");
  std::stop_source stop;
  stop.request_stop();
  CHECK_THROWS_AS(null_text(pipeline, inversion, {}, {.hooks = {.stop = stop.get_token()}}), Cancelled);

  const auto files = tiny_files();
  TextToImagePipeline closed{load<ClipTextEncoder>(files), load<KlAutoencoder>(files), WithoutGradients(tiny_unet(4)),
                             Diffusion{ddim_schedule({}), EpsPrediction{}}};
  CHECK_THROWS_WITH(null_text(closed, inversion),
                    Contains("expected a network through which gradients reach the text"));
  inversion.levels.resize(102, 0.0);
  CHECK_THROWS_WITH(null_text(pipeline, inversion), Contains("at most 100 steps") && Contains("found 101"));
}
