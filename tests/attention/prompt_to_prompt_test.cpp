#include "ip2p/attention/prompt_to_prompt.hpp"

#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include <utility>
#include <vector>

#include "attention/explicit_maps.hpp"
#include "ip2p/attention/any_token_edit.hpp"
#include "ip2p/attention/refine.hpp"
#include "ip2p/attention/reweight.hpp"
#include "ip2p/attention/word_swap.hpp"

using namespace ip2p;

namespace {

/// The published prompts' alignments, two edited prompts each.
struct Scene {
  std::vector<PromptTokens> swapped, refined;
  PromptTokens source;
  Scene() : source(prompt("swaps", 0, "source")) {
    for (const std::size_t i : {0, 1}) {
      swapped.push_back(prompt("swaps", i, "edited"));
      refined.push_back(prompt("refinements", i, "edited"));
    }
  }
  static PromptTokens prompt(const char* list, std::size_t i, const char* which) {
    static const auto fixture = testing::golden("attention/fixtures/alignment.json");
    return testing::golden_prompt(fixture[list][i][which]);
  }
  WordSwap swap() const { return WordSwap::between(source, swapped); }
  Refine refine() const { return Refine::between(source, refined); }
  TokenWindows windows(std::span<const PromptTokens> edited) const {
    return word_windows(edited, {0.0, 0.8}, {{"photo", {0.0, 0.4}}});
  }
};

AttentionSite cross_site(const Step& step, const std::vector<Branch>& branches) {
  return {.cross = true, .layer = 1, .height = 3, .width = 4, .step = step, .branches = branches};
}

/// A user's own edit: half of each word's map comes from the source.
struct Halfway {
  std::int64_t destinations() const { return 1; }
  TokenWeights weights(std::int64_t, const Step&) const { return {at::eye(77).mul(0.5), at::full({77}, 0.5)}; }
};

/// `Base`, which counts how often it is asked.
template <class Base>
struct Counted : Base {
  Counted(Base base, int* count) : Base(std::move(base)), asked(count) {}
  TokenWeights weights(std::int64_t destination, const Step& step) const {
    ++*asked;
    return Base::weights(destination, step);
  }
  int* asked;
};

/// An edit that differs from step to step.
struct Fading {
  int* asked;
  std::int64_t destinations() const { return 1; }
  TokenWeights weights(std::int64_t, const Step& step) const {
    ++*asked;
    return {at::eye(77).mul(1.0 - step.progress()), at::full({77}, step.progress())};
  }
};

const auto never = [](const AttentionSite&) { return false; };

/// Whether `PromptToPrompt` with its default windows changes a site of a run.
bool edits_by_default(const AttentionSite& site) {
  return site.cross ? site.step.index < 8 : site.step.index < 4 && site.height * site.width <= 1024;
}

}  // namespace

TEST_CASE("PromptToPrompt keeps the laws of attention under every edit", "[attention]") {
  const Scene scene;
  testing::check_attention(PromptToPrompt{scene.swap()}, {.group = 3, .edits = edits_by_default});
  testing::check_attention(PromptToPrompt{scene.refine(), scene.windows(scene.refined)},
                           {.group = 3, .edits = edits_by_default});
  testing::check_attention(PromptToPrompt{Reweight{equalizer(scene.refined[0], {{"fluffy", 2.0}}), scene.refine()}},
                           {.group = 3, .edits = edits_by_default});
  testing::check_attention(PromptToPrompt{Reweight<>{.scales = at::full({77}, 2.0)}},
                           {.group = 2, .edits = edits_by_default});
  testing::check_attention(PromptToPrompt{Halfway{}}, {.group = 2, .edits = edits_by_default});
  testing::check_attention(PromptToPrompt<WordSwap>{.edit = scene.swap(), .cross = {.common = {0, 0}}, .self = {0, 0}},
                           {.group = 3, .edits = never});
}

TEST_CASE("PromptToPrompt equals the published arithmetic with explicit maps", "[attention]") {
  const Scene scene;
  const auto fixture = SafetensorsFile::open(testing::fixture("attention/fixtures/edits.safetensors"));
  const std::vector<Branch> branches{{true, true}, {false, true}};
  const auto check = [&](const char* name, const auto& edit, const TokenWindows& windows) {
    for (const std::int64_t step : {0, 4, 7, 8}) {
      const PromptToPrompt attend{edit, windows};
      const auto found = attend(cross_site({.index = step, .count = 10}, branches), fixture.tensor("cross.q"),
                                fixture.tensor("cross.k"), fixture.tensor("cross.v"));
      INFO(name << ", step " << step);
      CHECK(testing::largest_difference(found, fixture.tensor(fmt::format("{}.{}", name, step))) < 1e-5);
    }
  };
  check("swap", scene.swap(), scene.windows(scene.swapped));
  check("refine", scene.refine(), scene.windows(scene.refined));
  at::Tensor scales =
      at::stack({equalizer(scene.refined[0], {{"fluffy", 3.0}}), equalizer(scene.refined[1], {{"bicycle", -0.5}})});
  check("reweight", Reweight{scales, scene.refine()}, scene.windows(scene.refined));
  scales = at::ones({2, 77});
  scales[0][5] = 2.0F;
  scales[1][2] = 0.25F;
  check("keep", Reweight{scales, KeepSource{.count = 2}}, scene.windows(scene.swapped));
}

TEST_CASE("PromptToPrompt equals explicit maps in every branch, group and step", "[attention]") {
  const Scene scene;
  const auto swap = scene.swap();
  const auto refine = scene.refine();
  const auto c = equalizer(scene.refined[0], {{"fluffy", 2.0}, {"cat", 0.5}});
  const auto windows = scene.windows(scene.refined);
  for (const auto& branches : testing::branch_lists()) {
    const auto blocks = testing::block_count(branches);
    const auto text = [&](std::int64_t block) { return testing::sees_text(branches, block); };
    for (const std::int64_t index : {0, 3, 4, 8, 9}) {
      const Step step{.index = index, .count = 10};
      const auto site = cross_site(step, branches);
      const auto input = testing::attention_input(site, blocks * 2 * 3, 77);
      const auto check = [&](const auto& edit, const testing::EditMap& replaced) {
        const auto found = PromptToPrompt{edit, windows}(site, input.q, input.k, input.v);
        const auto expected = testing::explicit_edit(
            input, blocks, 3, text, [&](const at::Tensor& source, const at::Tensor& own, std::int64_t d) {
              const auto open = windows.weights(d, 77, step).to(at::kDouble);
              return replaced(source, own, d) * open + own * (1.0 - open);
            });
        INFO(blocks << " blocks, step " << index);
        CHECK(testing::largest_difference(found, expected) < 1e-5);
      };
      const auto refined = [&](const at::Tensor& source, const at::Tensor& own, std::int64_t d) {
        const auto a = refine.alphas[d].to(at::kDouble);
        return source.index_select(2, refine.mapper[d].clamp_min(0)) * a + own * (1.0 - a);
      };
      check(swap, [&](const at::Tensor& source, const at::Tensor&, std::int64_t d) {
        return at::matmul(source, swap.alignment[d].to(at::kDouble));
      });
      check(refine, refined);
      check(Reweight{c, refine}, [&](const at::Tensor& source, const at::Tensor& own, std::int64_t d) {
        return refined(source, own, d) * c.to(at::kDouble);
      });
    }
  }
}

TEST_CASE("PromptToPrompt takes the source's self-attention for small maps in its window", "[attention]") {
  const Scene scene;
  const std::vector<Branch> branches{{true, true}, {false, true}};
  PromptToPrompt<WordSwap> attend{.edit = scene.swap(), .self = {0.2, 0.6}, .max_tokens = 12};
  for (const std::int64_t index : {0, 1, 2, 5, 6, 9}) {
    AttentionSite site{.height = 3, .width = 4, .step = {.index = index, .count = 10}, .branches = branches};
    const auto input = testing::attention_input(site, 12, 77);
    const auto found = attend(site, input.q, input.k, input.v);
    const auto expected = testing::explicit_edit(
        input, 2, 3, [](std::int64_t block) { return block == 0; },
        [&](const at::Tensor& source, const at::Tensor& own, std::int64_t) {
          return index >= 2 && index < 6 ? source : own;
        });
    CHECK(testing::largest_difference(found, expected) < 1e-5);
    attend.max_tokens = 11;
    CHECK(attend(site, input.q, input.k, input.v).equal(PlainAttention{}(site, input.q, input.k, input.v)));
    attend.max_tokens = 12;
  }
}

TEST_CASE("PromptToPrompt with edits that change nothing is plain attention", "[attention]") {
  // An edited image with the source's own queries and keys, and words that map to themselves.
  const std::vector<Branch> branches{{true, true}, {false, true}};
  const auto site = cross_site({.index = 0, .count = 10}, branches);
  auto input = testing::attention_input(site, 4, 77);
  const auto twice = [](const at::Tensor& x) {
    return x.unflatten(0, {2, 2}).narrow(1, 0, 1).expand({-1, 2, -1, -1, -1}).flatten(0, 1);
  };
  const testing::AttentionInput same{twice(input.q), twice(input.k), input.v};
  const auto plain = PlainAttention{}(site, same.q, same.k, same.v);
  const auto check = [&](const auto& attend) {
    CHECK(testing::largest_difference(attend(site, same.q, same.k, same.v), plain) < 1e-6);
  };
  check(PromptToPrompt{KeepSource{}});
  check(PromptToPrompt{Reweight<>{.scales = at::ones({77})}});
  check(PromptToPrompt{Halfway{}});
  // Word swap and refinement between equal prompts.
  const Scene scene;
  check(PromptToPrompt{WordSwap::between(scene.source, {&scene.source, 1})});
  check(PromptToPrompt{Refine::between(scene.source, {&scene.source, 1})});
}

TEST_CASE("PromptToPrompt computes the weights of a run once for each state of its windows", "[attention]") {
  const Scene scene;
  int asked = 0;
  const auto run = [&](const auto& attend, AttentionMemory* memory) {
    asked = 0;
    const std::vector<Branch> branches{{true, true}, {false, true}};
    std::vector<at::Tensor> results;
    for (std::int64_t i = 0; i < 10; ++i) {
      for (const int layer : {0, 1}) {
        auto site = cross_site({.index = i, .count = 10, .sigma = 10.0 - static_cast<double>(i)}, branches);
        site.layer = layer;
        site.memory = memory;
        const auto input = testing::attention_input(site, 12, 77);
        results.push_back(attend(site, input.q, input.k, input.v));
      }
    }
    return at::stack(results);
  };
  // With one window per word: that of "photo" closes at 0.4, the others at 0.8.
  const auto check = [&](const auto& attend, int expected) {
    AttentionMemory memory, other;
    const auto once = run(attend, &memory);
    CHECK(asked == expected);
    CHECK(once.equal(run(attend, nullptr)));
    CHECK(once.equal(run(attend, &other)));
    CHECK(asked == expected);  // nothing carries over from one run to another
  };
  const auto windows = scene.windows(scene.refined);
  const Counted<Refine> refine{scene.refine(), &asked};
  check(PromptToPrompt{refine, windows}, 3 * 2);
  check(PromptToPrompt{Reweight{equalizer(scene.refined[0], {{"fluffy", 2.0}}), refine}, windows}, 3 * 2);
  check(PromptToPrompt{AnyTokenEdit(refine), windows}, 3 * 2);
  check(PromptToPrompt{refine}, 2 * 2);
  check(PromptToPrompt{Fading{&asked}}, 10);  // does not say that its steps are alike
}

TEST_CASE("PromptToPrompt applies its weights in fp32 to 16-bit values", "[attention]") {
  const Scene scene;
  const auto site = cross_site({.index = 0, .count = 10}, {});
  const auto input = testing::attention_input(site, 3, 77);
  const auto exact = PromptToPrompt{scene.swap()}(site, input.q, input.k, input.v);
  const auto half = [](const at::Tensor& x) { return x.to(at::kBFloat16); };
  const auto found = PromptToPrompt{scene.swap()}(site, half(input.q), half(input.k), half(input.v));
  REQUIRE(found.scalar_type() == at::kBFloat16);
  CHECK(testing::largest_difference(found, exact) < 0.03);
}

TEST_CASE("PromptToPrompt refuses rows and contexts that do not fit its edit", "[attention]") {
  const Scene scene;
  const auto site = cross_site({.index = 0, .count = 10}, {});
  const auto four = testing::attention_input(site, 4, 77);
  CHECK_THROWS_WITH((PromptToPrompt{scene.swap()}(site, four.q, four.k, four.v)),
                    "PromptToPrompt: expected groups of 3 images in each of 1 branches, found 4 rows");
  const auto brief = testing::attention_input(site, 3, 40);
  CHECK_THROWS_WITH((PromptToPrompt{scene.swap()}(site, brief.q, brief.k, brief.v)),
                    "PromptToPrompt: edit: expected weights [40, 40] and [40], found [77, 77] and [77]");
  CHECK_THROWS_WITH((Reweight<>{.scales = at::ones({40})}.weights(0, {})),
                    "Reweight: scales: expected [77], found [40]");
}
