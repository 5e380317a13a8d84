#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <limits>
#include <map>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/codec/tiled.hpp"
#include "ip2p/guidance/no_guidance.hpp"
#include "ip2p/pipeline/edit.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/sampling/euler.hpp"
#include "ip2p/unet/unet.hpp"
#include "pipeline/tiny_models.hpp"
#include "support/catch.hpp"
#include "support/paths.hpp"
#include "support/reference.hpp"

namespace {

using namespace ip2p;
using ip2p::testing::max_difference;
using ip2p::testing::tiny_files;
using ip2p::testing::tiny_photo;

auto tiny_pipeline() {
  const auto model = tiny_files();
  return EditPipeline{load<ClipTextEncoder>(model), load<KlAutoencoder>(model), load<UNet>(model), diffusion_of(model)};
}

const RunSettings quick_edit{.steps = 3, .seed = 5, .resolution = 64};

/// A UNet that counts the samples that it was evaluated on.
struct Counted : UNet {
  Counted(UNet unet, std::int64_t* count) : UNet(std::move(unet)), samples(count) {}
  template <class Attention = PlainAttention>
  at::Tensor operator()(const at::Tensor& x, const TimeProjections& times, const ContextProjections& texts,
                        const Attention& attend = {}, const Step& step = {}) const {
    *samples += x.size(0);
    return UNet::operator()(x, times, texts, attend, step);
  }
  std::int64_t* samples;
};

/// Counts the rows that reach each kind of attention; edits nothing.
struct CountingRows {
  static constexpr bool uniform_over_branches = true;
  std::map<std::int64_t, std::int64_t>* self;  ///< Rows of self-attention by layer.
  std::map<std::int64_t, std::int64_t>* cross;
  std::vector<std::size_t>* branches;
  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    (*(site.cross ? cross : self))[site.layer] += q.size(0);
    branches->push_back(site.branches.size());
    return PlainAttention{}(site, q, k, v);
  }
};

/// The same, but it does not declare that it treats all branches alike.
struct CountingEveryRow : CountingRows {
  static constexpr bool uniform_over_branches = false;
};

/// Overflows in 16 bits, as some published autoencoders do.
struct Overflowing : KlAutoencoder {
  explicit Overflowing(KlAutoencoder codec) : KlAutoencoder(std::move(codec)) {}
  [[nodiscard]] at::Tensor decode(const at::Tensor& z) const {
    const auto x = KlAutoencoder::decode(z);
    return dtype() == at::kFloat ? x : x.mul(std::numeric_limits<double>::infinity());
  }
};

}  // namespace

TEST_CASE("Repeating an edit with the same pipeline gives the same picture", "[pipeline]") {
  auto edit = tiny_pipeline();
  const auto first = edit(tiny_photo(), "make it snowy", quick_edit);
  static_cast<void>(edit(tiny_photo(64, 64, 3), "turn it into a sketch", quick_edit));
  CHECK(edit(tiny_photo(), "make it snowy", quick_edit) == first);
  CHECK(first.width == 64);
  CHECK_FALSE(edit(tiny_photo(), "turn it into a sketch", quick_edit) == first);
}

TEST_CASE("Pipelines that share weights give the same bits in two threads as each gives alone", "[pipeline]") {
  const std::vector<Image> photos{tiny_photo(), tiny_photo(128, 64, 3)};
  const std::vector<std::string> prompts{"make it snowy", "turn it into a sketch"};
  const auto run = [&](const auto& pipeline, std::size_t i) {
    return pipeline.run({&photos[i], 1}, {&prompts[i], 1}, quick_edit).latents;
  };
  const auto alone = tiny_pipeline();
  const at::Tensor expected[] = {run(alone, 0), run(alone, 1)};
  for (int round = 0; round < 20; ++round) {
    // Weights of a fresh model are packed in the first calls, here by both threads at once.
    const auto first = tiny_pipeline();
    const auto second = first;
    at::Tensor found[2];
    {
      const std::jthread one([&] { found[0] = run(first, 0); });
      const std::jthread other([&] { found[1] = run(second, 1); });
    }
    CHECK(at::equal(found[0], expected[0]));
    CHECK(at::equal(found[1], expected[1]));
  }
}

TEST_CASE("A batch equals its pictures edited one by one", "[pipeline]") {
  auto edit = tiny_pipeline();
  const std::vector<Image> photos{tiny_photo(), tiny_photo(64, 64, 3)};
  const std::vector<std::string> prompts{"make it snowy", "turn it into a sketch"};
  auto options = quick_edit;
  options.seeds = {11, 3};
  const auto batch = edit.run(photos, prompts, options);
  REQUIRE(batch.images.size() == 2);
  for (std::size_t i = 0; i < 2; ++i) {
    auto alone = quick_edit;
    alone.seed = options.seeds[i];
    const auto single = edit.run({&photos[i], 1}, {&prompts[i], 1}, alone);
    const auto row = batch.latents.narrow(0, static_cast<std::int64_t>(i), 1);
    CHECK((row - single.latents).abs().max().item<double>() < 1e-4 * single.latents.abs().max().item<double>());
  }
  // One photograph, several instructions.
  CHECK(edit.run({&photos[0], 1}, prompts, options).images.size() == 2);
  CHECK_THROWS_WITH(edit.run(photos, std::vector<std::string>(3, "x"), quick_edit), Contains("found 3 and 2"));
  const std::vector<Image> unequal{tiny_photo(), tiny_photo(128, 64)};
  CHECK_THROWS_WITH(edit.run(unequal, prompts, quick_edit), Contains("one size"));
}

TEST_CASE("Progress is reported at each step and a stop takes effect before the next", "[pipeline]") {
  auto edit = tiny_pipeline();
  auto options = quick_edit;
  std::vector<std::int64_t> seen;
  options.hooks.on_step = [&](const Step& step, const at::Tensor& latents) {
    seen.push_back(step.index);
    CHECK(step.count == 3);
    CHECK(latents.sizes() == at::IntArrayRef({1, 4, 8, 8}));
  };
  static_cast<void>(edit(tiny_photo(), "x", options));
  CHECK(seen == std::vector<std::int64_t>{0, 1, 2});

  std::stop_source stop;
  seen.clear();
  options.hooks.stop = stop.get_token();
  options.hooks.on_step = [&](const Step& step, const at::Tensor&) {
    seen.push_back(step.index);
    stop.request_stop();
  };
  CHECK_THROWS_AS(edit(tiny_photo(), "x", options), Cancelled);
  CHECK(seen == std::vector<std::int64_t>{0});
}

TEST_CASE("Branches of zero weight are not evaluated, and guidance is never switched off silently", "[pipeline]") {
  const auto model = tiny_files();
  std::int64_t samples = 0;
  EditPipeline edit{load<ClipTextEncoder>(model), load<KlAutoencoder>(model), Counted(load<UNet>(model), &samples),
                    diffusion_of(model)};
  const auto evaluated = [&](double image_scale, double text_scale) {
    samples = 0;
    edit.guidance = {.image_scale = image_scale, .text_scale = text_scale};
    const auto result = edit.run(std::vector{tiny_photo()}, std::vector<std::string>{"make it snowy"}, quick_edit);
    return std::pair(samples, result.latents);
  };
  const auto [full, guided] = evaluated(1.5, 7.5);
  CHECK(full == 9);
  CHECK(evaluated(1.0, 7.5).first == 6);  // s_I = 1: e(null, null) has no weight
  CHECK(evaluated(2.0, 2.0).first == 6);  // s_I = s_T: e(image, null) has no weight
  CHECK(evaluated(1.5, 0.0).first == 6);  // s_T = 0: e(image, text) has no weight
  const auto [one, unguided] = evaluated(1.0, 1.0);
  CHECK(one == 3);
  // Scales at and below 1 still guide, by more than the rounding of a different batch.
  CHECK(max_difference(evaluated(0.8, 1.0).second, unguided) > 1e-3);
  CHECK(max_difference(evaluated(1.0, 0.5).second, unguided) > 1e-3);

  EditPipeline plain{load<ClipTextEncoder>(model), load<KlAutoencoder>(model), load<UNet>(model),
                     diffusion_of(model),          EulerAncestral{},           NoGuidance{}};
  CHECK(at::equal(plain.run(std::vector{tiny_photo()}, std::vector<std::string>{"make it snowy"}, quick_edit).latents,
                  unguided));
}

TEST_CASE("Branches with the same input share everything before the first text", "[pipeline]") {
  auto edit = tiny_pipeline();
  const auto images = edit.prepare(std::vector{tiny_photo(), tiny_photo(64, 64, 3)}, quick_edit);
  const std::vector<std::string> prompts{"make it snowy", "turn it into a sketch"};
  auto options = quick_edit;
  options.steps = 1;
  const auto run = [&](auto attention) {
    TorchNoise noise(options.seed);
    return edit.sample(images, prompts, options, noise, attention);
  };
  std::map<std::int64_t, std::int64_t> self, cross;
  std::vector<std::size_t> branches;
  const auto shared = run(CountingRows{&self, &cross, &branches});
  // Three branches of two pictures: two of the branches look the same to the layers before the first text.
  CHECK(self.at(0) == 4);
  CHECK(cross.at(0) == 6);
  CHECK(branches.front() == 2);
  for (std::int64_t layer = 1; layer < static_cast<std::int64_t>(self.size()); ++layer) {
    CHECK(self.at(layer) == 6);
    CHECK(cross.at(layer) == 6);
  }
  self.clear();
  cross.clear();
  branches.clear();
  const auto apart = run(CountingEveryRow{{&self, &cross, &branches}});
  CHECK(self.at(0) == 6);
  CHECK(branches.front() == 3);
  CHECK((shared - apart).abs().max().item<double>() < 1e-4 * apart.abs().max().item<double>());

  // To save memory, they can be evaluated one after the other.
  branches.clear();
  edit.branches_at_once = 1;
  const auto alone = run(CountingRows{&self, &cross, &branches});
  CHECK(std::set<std::size_t>(branches.begin(), branches.end()) == std::set<std::size_t>{1});
  CHECK((alone - apart).abs().max().item<double>() < 1e-4 * apart.abs().max().item<double>());
}

TEST_CASE("Each step may have its own null text", "[pipeline]") {
  auto edit = tiny_pipeline();
  const std::vector<std::string> prompts{"make it snowy"};
  const auto sigmas = edit.diffusion.schedule.sigmas(3);
  auto conditioning = edit.encode_text(prompts);
  conditioning.image = edit.encode_images(edit.prepare(std::vector{tiny_photo()}, quick_edit));
  const auto run = [&](const at::Tensor& null_text) {
    TorchNoise noise(1);
    const auto start = noise.normal({1, 4, 8, 8}, 0).mul(sigmas.front());
    Conditioning changed = conditioning;
    changed.null_text = null_text;
    return edit.denoise(start, sigmas, changed, noise);
  };
  const auto null_text = conditioning.null_text.contiguous();
  const auto plain = run(null_text);
  CHECK(at::equal(run(at::stack({null_text, null_text, null_text})), plain));
  CHECK(max_difference(run(at::stack({null_text, null_text, null_text * 2})), plain) > 1e-3);
  CHECK_THROWS_WITH(run(at::stack({null_text, null_text})),
                    Contains("null text: expected one for each of 3 steps, found 2"));
  CHECK_THROWS_WITH(run(null_text.narrow(1, 0, 5)), Contains("conditioning: expected text"));
}

TEST_CASE("A negative prompt replaces the empty text", "[pipeline]") {
  auto edit = tiny_pipeline();
  auto options = quick_edit;
  const auto plain = edit(tiny_photo(), "make it snowy", options);
  options.negative_prompt = "blurry";
  CHECK_FALSE(edit(tiny_photo(), "make it snowy", options) == plain);
}

TEST_CASE("Given latents are the start noise and must have the shape of the run", "[pipeline]") {
  auto edit = tiny_pipeline();
  edit.guidance = {.image_scale = 1.0, .text_scale = 1.0};
  auto options = quick_edit;
  TorchNoise noise(options.seed);
  options.latents = noise.normal({1, 4, 8, 8}, 0);
  // The draw that they replace is still made, so that the ancestral noise is that of the seed's own run.
  CHECK(edit(tiny_photo(), "x", options) == edit(tiny_photo(), "x", quick_edit));
  options.latents = at::zeros({1, 4, 8, 9});
  CHECK_THROWS_WITH(edit(tiny_photo(), "x", options), Contains("latents: expected [1, 4, 8, 8], found [1, 4, 8, 9]"));
}

TEST_CASE("Sizes and rounding are those of the chosen program", "[pipeline]") {
  const auto released = edit_size(720, 480, std::nullopt, Numerics::released);
  CHECK((released.width == 576 && released.height == 384));
  const auto diffusers = edit_size(723, 485, std::nullopt, Numerics::diffusers);
  CHECK((diffusers.width == 720 && diffusers.height == 480));
  const auto scaled = edit_size(1440, 960, 512, Numerics::diffusers);
  CHECK((scaled.width == 512 && scaled.height == 336));
  CHECK_THROWS_WITH(edit_size(64, 64, 63, Numerics::released), Contains("resolution: expected 64 to 16384"));

  // Decoded values between levels show whether they are truncated or rounded.
  auto edit = tiny_pipeline();
  const auto latents = at::randn({1, 4, 4, 4});
  const auto cut = edit.decode(latents, Rounding::truncate);
  const auto rounded = edit.decode(latents, Rounding::nearest);
  CHECK((edit.decode(latents) == cut));
  edit.defaults.numerics = Numerics::diffusers;
  CHECK((edit.decode(latents) == rounded));
  std::int64_t up = 0;
  for (std::size_t i = 0; i < cut[0].pixels.size(); ++i) {
    const int difference = rounded[0].pixels[i] - cut[0].pixels[i];
    REQUIRE((difference == 0 || difference == 1));
    up += difference;
  }
  CHECK(up > 0);
}

TEST_CASE("Models loaded on demand and tiled codecs work in the same pipeline", "[pipeline]") {
  const auto model = tiny_files();
  auto edit = tiny_pipeline();
  EditPipeline frugal{OnDemand<ClipTextEncoder>(model), Tiled(OnDemand<KlAutoencoder>(model), 8, 2), load<UNet>(model),
                      diffusion_of(model)};
  CHECK(frugal(tiny_photo(), "make it snowy", quick_edit) == edit(tiny_photo(), "make it snowy", quick_edit));
}

TEST_CASE("Weights kept in 16 bits give nearly the same picture as fp32", "[pipeline]") {
  const auto model = tiny_files();
  const LoadOptions narrow{.dtype = at::kFloat, .storage = at::kHalf};
  auto edit = tiny_pipeline();
  EditPipeline half{OnDemand<ClipTextEncoder>(model, narrow), OnDemand<KlAutoencoder>(model, narrow),
                    load<UNet>(model, narrow), diffusion_of(model)};
  const auto a = edit.run(std::vector{tiny_photo()}, std::vector<std::string>{"make it snowy"}, quick_edit).latents;
  const auto b = half.run(std::vector{tiny_photo()}, std::vector<std::string>{"make it snowy"}, quick_edit).latents;
  CHECK((a - b).abs().max().item<double>() < 0.02 * a.abs().max().item<double>());
}

TEST_CASE("A codec that overflows in 16 bits is evaluated in fp32, and is itself unchanged", "[pipeline]") {
  const auto model = tiny_files();
  EditPipeline edit{load<ClipTextEncoder>(model), Overflowing(load<KlAutoencoder>(model, {.dtype = at::kBFloat16})),
                    load<UNet>(model), diffusion_of(model)};
  const auto first = edit(tiny_photo(), "x", quick_edit);
  CHECK(edit.codec().dtype() == at::kBFloat16);
  CHECK(edit(tiny_photo(), "x", quick_edit) == first);
}

TEST_CASE("Broken weights are an error that names the first bad layer, not a black picture", "[pipeline]") {
  const at::NoGradGuard no_grad;
  const auto model = tiny_files();
  const auto damaged = [&](const char* name, Module& module) {
    module.parameter(name).view(-1)[0].fill_(std::numeric_limits<float>::quiet_NaN());
  };
  {
    auto unet = load<UNet>(model, {.inference = false});
    damaged("mid_block.resnets.1.conv2.bias", unet.module());
    EditPipeline edit{load<ClipTextEncoder>(model), load<KlAutoencoder>(model), unet, diffusion_of(model)};
    CHECK_THROWS_WITH(edit(tiny_photo(), "x", quick_edit),
                      Contains("step 1 of 3") && Contains("first in unet.mid_block.resnets.1.conv2"));
  }
  {
    auto codec = load<KlAutoencoder>(model, {.inference = false});
    damaged("decoder.mid_block.resnets.0.conv1.bias", codec.module());
    EditPipeline edit{load<ClipTextEncoder>(model), codec, load<UNet>(model), diffusion_of(model)};
    CHECK_THROWS_WITH(edit(tiny_photo(), "x", quick_edit),
                      Contains("vae decoder") && Contains("first in vae.decoder.mid_block.resnets.0.conv1"));
  }
  {
    auto codec = load<KlAutoencoder>(model, {.inference = false});
    for (const auto* name : {"decoder.conv_out.weight", "decoder.conv_out.bias"}) {
      codec.module().parameter(name).zero_();
    }
    EditPipeline edit{load<ClipTextEncoder>(model), codec, load<UNet>(model), diffusion_of(model)};
    CHECK_THROWS_WITH(edit(tiny_photo(), "x", quick_edit), Contains("one colour everywhere"));
  }
}

TEST_CASE("Options that are out of range and models of another kind are refused", "[pipeline]") {
  auto edit = tiny_pipeline();
  auto options = quick_edit;
  options.steps = 0;
  CHECK_THROWS_WITH(edit(tiny_photo(), "x", options), Contains("steps: expected at least 1, found 0"));
  options = quick_edit;
  options.seeds = {1, 2};
  CHECK_THROWS_WITH(edit(tiny_photo(), "x", options), Contains("seeds: expected 1 (one per picture), found 2"));
  CHECK_THROWS_WITH(edit.run({}, {}, quick_edit), Contains("found 0 and 0"));

  const auto model = tiny_files();
  const auto text_to_image = ModelFiles::open(ip2p::testing::fixture("unet/fixtures/sd1-4ch"));
  CHECK_THROWS_WITH((EditPipeline{load<ClipTextEncoder>(model), load<KlAutoencoder>(model), load<UNet>(text_to_image),
                                  diffusion_of(model)}),
                    Contains("expected a UNet with 8 input channels") && Contains("text-to-image"));
}
