#include "ip2p/train/contrastive_loss.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <string>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/reference.hpp"

// Expected values: transformers' CLIPModel with return_loss, by tests/parity/make_clip_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

ModelFiles tiny_files() {
  return ModelFiles::open(fixture("vision/fixtures/tiny-clip"),
                          {.tokenizer = fixture("pipeline/fixtures/tiny-ip2p/tokenizer")});
}

BpeTokenizer clip_tokenizer() { return BpeTokenizer::open(tiny_files().tokenizer()); }

ClipModel fresh_clip() {
  ClipModel model(ClipConfig::from_json(tiny_files().config("clip"), "tiny"));
  model.initialise(3);
  return model;
}

/// Six pictures of noise, each with its own words.
struct Noises {
  std::int64_t size() const { return 6; }
  CaptionedPixels get(std::int64_t i, SampleRandom& random) const {
    static const std::vector<std::string> words{"dog", "red house", "a lake", "winter", "two balloons", "the moon"};
    const auto chosen = random.below(2) == 0 ? "a photo of " : "a picture of ";
    return {CounterNoise(static_cast<std::uint64_t>(i)).normal({1, 3, 32, 32}, 0)[0],
            chosen + words[static_cast<std::size_t>(i)]};
  }
};

Parameters parameters_of(const ClipModel& model) {
  Parameters parameters;
  return parameters.add(model.module(), "clip");
}

}  // namespace

TEST_CASE("The contrastive loss and its gradients equal transformers' return_loss", "[train][parity]") {
  const auto file = SafetensorsFile::open(fixture("vision/fixtures/clip-expected.safetensors"));
  auto model = load<ClipModel>(tiny_files(), {.inference = false});
  const auto parameters = parameters_of(model);
  const auto pixels = at::cat({file.tensor("processor_pixels"), file.tensor("released_pixels").narrow(0, 0, 1)});
  const auto loss =
      contrastive_loss(model.project_images(pixels), model.project_texts(file.tensor("input_ids")), model.scale());
  CHECK(max_difference(loss, file.tensor("loss")) < 2e-5);
  loss.backward();
  std::size_t compared = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto name = "gradient." + parameters.names[i].substr(5);  // "clip."
    if (!file.contains(name)) continue;
    ++compared;
    CHECK(max_difference(parameters.tensors[i].grad(), file.tensor(name)) < 2e-4);
  }
  CHECK(compared == 5);
}

TEST_CASE("A small CLIP learns which caption belongs to which picture", "[train]") {
  auto model = fresh_clip();
  Noises source;
  const ContrastiveLoss loss(model, clip_tokenizer(), source, {.batch = 6, .seed = 1});
  Trainer run(parameters_of(model), loss, ConstantRate{3e-3}, TrainingOptions{});
  const double before = run.advance().loss;
  CHECK(std::abs(before - std::log(6.0)) < 1.0);
  run.run(60);
  const at::NoGradGuard no_grad;
  const double after = loss(60).item<double>();
  CHECK(after < 0.1 * before);
}

TEST_CASE("Contrastive training that was interrupted ends with the same bits", "[train]") {
  const auto run_to = [](std::int64_t stop, std::int64_t steps) {
    auto model = fresh_clip();
    Noises source;
    const ContrastiveLoss loss(model, clip_tokenizer(), source, {.batch = 4, .seed = 2});
    Trainer run(parameters_of(model), loss, ConstantRate{1e-3}, TrainingOptions{});
    run.run(stop);
    auto snapshot = run.snapshot();
    for (auto& [name, tensor] : snapshot.tensors) tensor = tensor.clone();
    auto other = fresh_clip();
    const ContrastiveLoss other_loss(other, clip_tokenizer(), source, {.batch = 4, .seed = 2});
    Trainer second(parameters_of(other), other_loss, ConstantRate{1e-3}, TrainingOptions{});
    second.restore(snapshot);
    second.run(steps);
    return at::cat(
        {other.module().visual_projection->weight.detach().flatten(), other.module().logit_scale.detach().flatten()});
  };
  CHECK(at::equal(run_to(2, 5), run_to(5, 5)));
}

TEST_CASE("The logit scale is clamped to ln 100, without losing its gradient", "[train]") {
  auto model = fresh_clip();
  const auto parameters = parameters_of(model);
  {
    const at::NoGradGuard no_grad;
    auto scale = model.module().logit_scale;
    scale.fill_(7.0);
  }
  Noises source;
  const ContrastiveLoss loss(model, clip_tokenizer(), source, {.batch = 3});
  loss(0).backward();
  CHECK(model.module().logit_scale.item<float>() == Approx(std::log(100.0)));
  CHECK(model.module().logit_scale.grad().abs().item<double>() > 0.0);
}

TEST_CASE("The contrastive loss refuses batches that it cannot draw or pair", "[train]") {
  Noises source;
  CHECK_THROWS_WITH(ContrastiveLoss(fresh_clip(), clip_tokenizer(), source, {.batch = 7}),
                    Contains("expected a batch of 2 to 6 pictures, found 7"));
  CHECK_THROWS_WITH(ContrastiveLoss(fresh_clip(), clip_tokenizer(), source, {.batch = 2, .largest_scale = 0}),
                    Contains("expected a positive largest scale, found 0"));
  CHECK_THROWS_WITH(contrastive_loss(at::zeros({2, 4}), at::zeros({3, 4}), at::zeros({})),
                    Contains("found [2, 4] and [3, 4]"));
}
