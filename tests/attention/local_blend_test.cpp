#include "ip2p/attention/local_blend.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include "attention/explicit_maps.hpp"
#include "ip2p/attention/prompt_to_prompt.hpp"
#include "ip2p/attention/self_replace.hpp"
#include "ip2p/attention/word_swap.hpp"

using namespace ip2p;

namespace {

/// Records only how often it was asked, for any number of images.
struct Counter {
  std::int64_t records = 0;
  bool wants(const AttentionSite&) const { return true; }
  at::Tensor columns(std::int64_t, std::int64_t tokens) const { return at::eye(tokens).unsqueeze(0); }
  void record(const AttentionSite&, const at::Tensor&) { ++records; }
};
static_assert(AttentionRecorder<Counter>);
static_assert(uniform_over_branches<Observed<SelfReplace, Counter>>());

WordSwap golden_swap() {
  const auto fixture = testing::golden("attention/fixtures/alignment.json");
  const auto& swaps = fixture["swaps"];
  return WordSwap::between(
      testing::golden_prompt(swaps[0]["source"]),
      std::vector{testing::golden_prompt(swaps[0]["edited"]), testing::golden_prompt(swaps[1]["edited"])});
}

const LocalBlend both_words{.words = {{5}, {5, 6}, {5}}};
const LocalBlend with_subtract{.words = both_words.words, .subtract = {{8}, {9, 10}, {8}}};

AttentionSite square_site(std::int64_t side, const Step& step, const std::vector<Branch>& branches = {}) {
  return {.cross = true, .height = side, .width = side, .step = step, .branches = branches};
}

/// Sums as `Observed` passes them on: image i looks only at pixel 5 i of 4x4.
at::Tensor spots(std::int64_t images) {
  at::Tensor sums = at::zeros({images, 16, 1});
  for (std::int64_t i = 0; i < images; ++i) sums[i][i * 5] = 1.0F;
  return sums;
}

}  // namespace

TEST_CASE("Observed keeps the laws of attention and returns its base's bits", "[attention]") {
  const auto counter = std::make_shared<Counter>();
  const auto edits = [](const AttentionSite& site) { return !site.cross && site.step.progress() < 0.5; };
  testing::check_attention(Observed(SelfReplace{}, counter), {.group = 2, .edits = edits});
  testing::check_attention(Observed(Observed(PromptToPrompt{golden_swap()}, counter), counter), {.group = 3});
  REQUIRE(counter->records > 0);
  const auto input = testing::attention_input(square_site(4, {}), 3, 77);
  const PromptToPrompt base{golden_swap()};
  CHECK(Observed(base, counter)(square_site(4, {}), input.q, input.k, input.v)
            .equal(base(square_site(4, {}), input.q, input.k, input.v)));
  CHECK_THROWS_WITH(Observed(base, std::shared_ptr<Counter>{}), "Observed: expected a recorder, found none");
}

TEST_CASE("LocalBlend makes the published masks from the maps of a run", "[attention]") {
  const auto fixture = SafetensorsFile::open(testing::fixture("attention/fixtures/blend.safetensors"));
  // The second branch's queries are the first's in reverse order: its maps must not count.
  const std::vector<Branch> branches{{false, true}, {true, true}};
  const auto both = [](const at::Tensor& x) { return at::cat({x.flip({2}), x}); };
  const auto latents = fixture.tensor("latents");
  // The first run leaves nothing behind for the second.
  for (int run = 0; run < 2; ++run) {
    const auto blend = both_words.start();
    const auto without = with_subtract.start();
    const Observed attend(
        Observed(PromptToPrompt<WordSwap>{.edit = golden_swap(), .cross = {.common = {0.0, 0.4}}}, blend), without);
    at::Tensor last;
    for (std::int64_t i = 0; i < 4; ++i) {
      const Step step{.index = i, .count = 4};
      for (std::int64_t layer = 0; layer < 3; ++layer) {
        const auto q = both(fixture.tensor(fmt::format("q.{}.{}", i, layer)));
        const auto k = both(fixture.tensor(fmt::format("k.{}", layer)));
        (void)attend(square_site(layer == 1 ? 4 : 8, step, branches), q, k, k);
      }
      INFO("run " << run << ", step " << i);
      CHECK(blend->mask(32, 32).squeeze(1).equal(fixture.tensor(fmt::format("mask.{}", i)).to(at::kBool)));
      CHECK(without->mask(32, 32).squeeze(1).equal(fixture.tensor(fmt::format("without.{}", i)).to(at::kBool)));
      last = blend->revise(step, latents);
      (void)without->revise(step, latents);
    }
    CHECK(testing::largest_difference(last, fixture.tensor("blended")) < 1e-6);
  }
}

TEST_CASE("LocalBlend restores the source outside the words of source and edited image", "[attention]") {
  LocalBlend::Run blend(LocalBlend{.words = {{1}, {1}}, .start_blend = 0.2});
  const at::Tensor latents = CounterNoise(3).normal({4, 2, 16, 16}, 0);
  for (std::int64_t i = 0; i < 10; ++i) {
    const Step step{.index = i, .count = 10};
    blend.record(square_site(4, step), spots(4));
    const auto revised = blend.revise(step, latents);
    if (i < 2) {  // a fifth of ten steps
      CHECK(revised.equal(latents));
      continue;
    }
    for (std::int64_t group = 0; group < 2; ++group) {
      const auto source = latents[2 * group];
      CHECK(revised[2 * group].equal(source));
      // Pixels 5 i of a 4x4 map, with their neighbours, in latents of 16x16.
      at::Tensor inside = at::zeros({4, 4}, at::kBool);
      for (const auto pixel : {10 * group, 10 * group + 5}) {
        for (std::int64_t y = 0; y < 4; ++y) {
          for (std::int64_t x = 0; x < 4; ++x) {
            if (std::abs(y - pixel / 4) <= 1 && std::abs(x - pixel % 4) <= 1) inside[y][x] = true;
          }
        }
      }
      REQUIRE(inside.any().item<bool>());
      REQUIRE_FALSE(inside.all().item<bool>());
      inside = inside.repeat_interleave(4, 0).repeat_interleave(4, 1);
      CHECK(revised[2 * group + 1].equal(at::where(inside, latents[2 * group + 1], source)));
    }
  }
}

TEST_CASE("The recorder of a LocalBlend serves one run", "[attention]") {
  const LocalBlend one_word{.words = {{1}}, .start_blend = 0.0};
  const at::Tensor latents = at::zeros({1, 2, 16, 16});
  const auto record = [](LocalBlend::Run& run, std::int64_t index, std::int64_t count) {
    run.record(square_site(4, {.index = index, .count = count}), spots(1));
  };
  const auto again = [](std::int64_t index, std::int64_t after) {
    return fmt::format(
        "LocalBlend: expected the steps of one run in order, found step {} after step {}: start() a recorder for each "
        "run",
        index, after);
  };
  // Two evaluations of a step belong to one run; the step is over once it was revised.
  const auto whole = one_word.start();
  record(*whole, 0, 1);
  record(*whole, 0, 1);
  (void)whole->revise({.index = 0, .count = 1}, latents);
  CHECK_THROWS_WITH(record(*whole, 0, 1), again(0, 0));
  // Interrupted before it was revised.
  const auto broken = one_word.start();
  record(*broken, 0, 3);
  record(*broken, 1, 3);
  CHECK_THROWS_WITH(record(*broken, 0, 3), again(0, 1));
  CHECK_THROWS_WITH(record(*broken, 1, 2),
                    "LocalBlend: expected a run of 3 steps as before, found one of 2: start() a recorder for each run");
  // A step in which nothing was recorded ends as well.
  const auto late = one_word.start();
  record(*late, 0, 4);
  record(*late, 1, 4);
  (void)late->revise({.index = 2, .count = 4}, latents);
  CHECK_THROWS_WITH(record(*late, 2, 4), again(2, 2));
  record(*late, 3, 4);
}

TEST_CASE("LocalBlend uses maps whose sides are a quarter of the latents', rounded up", "[attention]") {
  LocalBlend::Run blend(LocalBlend{.words = {{1}}});
  const Step step{.index = 5, .count = 10};
  AttentionSite site{.cross = true, .height = 5, .width = 3, .step = step};
  blend.record(site, at::full({1, 15, 1}, 0.5));
  CHECK(blend.mask(17, 12).sizes() == at::IntArrayRef({1, 1, 17, 12}));
  CHECK(blend.mask(20, 10).all().item<bool>());
  CHECK_THROWS_WITH(blend.mask(16, 12), "LocalBlend: expected cross-attention layers with maps of 4x3, found 5x3");
  CHECK_THROWS_WITH(both_words.start()->mask(16, 16),
                    "LocalBlend: expected cross-attention layers with maps of 4x4, found none recorded");
  CHECK(blend.wants(square_site(32, step)));
  CHECK_FALSE(blend.wants(square_site(33, step)));
}

TEST_CASE("LocalBlend refuses lists that do not fit", "[attention]") {
  const auto start = [](const LocalBlend& blend) { return blend.start(); };
  CHECK_THROWS_WITH(start({.words = {}}), "LocalBlend: words: expected one list for each image of a group, found none");
  CHECK_THROWS_WITH(start({.words = {{1}, {}}}), "LocalBlend: words[1]: expected token positions, found none");
  CHECK_THROWS_WITH(start({.words = {{1}, {1}}, .subtract = {{1}}}),
                    "LocalBlend: subtract: expected 2 lists or none, found 1");
  CHECK_THROWS_WITH(start({.words = {{77}}})->columns(1, 77), "LocalBlend: token: expected 0 ... 76, found 77");
  CHECK_THROWS_WITH(start({.words = {{1}, {1}}})->columns(3, 77),
                    "LocalBlend: expected groups of 2 images, found 3 images");
}
