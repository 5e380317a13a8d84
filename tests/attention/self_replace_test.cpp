#include "ip2p/attention/self_replace.hpp"

#include "attention/explicit_maps.hpp"
#include "ip2p/attention/text_only.hpp"

using namespace ip2p;
using testing::explicit_edit;

namespace {

const Step first{.index = 0, .count = 10};
const auto always = [](std::int64_t) { return true; };
const auto source_map = [](const at::Tensor& source, const at::Tensor&, std::int64_t) { return source; };

AttentionSite self_site(std::int64_t height, std::int64_t width, const Step& step,
                        const std::vector<Branch>& branches = {}) {
  return {.cross = false, .layer = 2, .height = height, .width = width, .step = step, .branches = branches};
}

/// The input of one layer as the UNet passes it: q, k and v are views of one projection.
testing::AttentionInput projected(std::int64_t rows, std::int64_t pixels) {
  const at::Tensor all = CounterNoise(8).normal({rows, pixels, 3 * 16}, 0).unflatten(2, {3, 2, 8});
  const auto part = [&](std::int64_t i) { return all.select(2, i).transpose(1, 2); };
  return {part(0), part(1), part(2)};
}

}  // namespace

TEST_CASE("SelfReplace keeps the laws of attention", "[attention]") {
  const auto edits = [](const AttentionSite& site) { return !site.cross && site.step.progress() < 0.5; };
  testing::check_attention(SelfReplace{}, {.group = 2, .edits = edits});
  testing::check_attention(SelfReplace{.group = 3}, {.group = 3, .edits = edits});
  testing::check_attention(TextOnly{SelfReplace{}}, {.group = 2, .edits = edits});
  testing::check_attention(SelfReplace{.share = 0.0, .group = 2},
                           {.group = 2, .edits = [](const auto&) { return false; }});
  testing::check_attention(SelfReplace{.max_tokens = 29},
                           {.group = 2, .edits = [](const AttentionSite&) { return false; }});
}

TEST_CASE("SelfReplace gives each image the maps of its group's source", "[attention]") {
  for (const auto& branches : testing::branch_lists()) {
    const auto blocks = testing::block_count(branches);
    for (const std::int64_t group : {1, 2, 3}) {
      // 1,040 pixels take the code path for large maps.
      for (const auto& [height, width] : {std::pair{4, 5}, std::pair{26, 40}}) {
        if (group == 3 && blocks == 3 && height > 4) continue;  // enough seen
        const auto input = projected(blocks * 2 * group, height * width);
        const auto site = self_site(height, width, first, branches);
        INFO(blocks << " blocks, groups of " << group << ", " << height << "x" << width);
        const auto found = SelfReplace{.group = group}(site, input.q, input.k, input.v);
        CHECK(testing::largest_difference(found, explicit_edit(input, blocks, group, always, source_map)) < 1e-5);

        const auto text = [&](std::int64_t block) { return testing::sees_text(branches, block); };
        const auto conditional = TextOnly{SelfReplace{.group = group}}(site, input.q, input.k, input.v);
        CHECK(testing::largest_difference(conditional, explicit_edit(input, blocks, group, text, source_map)) < 1e-5);
      }
    }
  }
}

TEST_CASE("SelfReplace equals the published arithmetic", "[attention]") {
  const auto fixture = SafetensorsFile::open(testing::fixture("attention/fixtures/edits.safetensors"));
  const auto q = fixture.tensor("self.q");
  const auto k = fixture.tensor("self.k");
  const auto v = fixture.tensor("self.v");
  const std::vector<Branch> branches{{true, true}, {false, true}};
  const auto difference = [&](const auto& attend, const char* name) {
    return testing::largest_difference(attend(self_site(3, 4, first, branches), q, k, v), fixture.tensor(name));
  };
  CHECK(difference(SelfReplace{.group = 3}, "self.triples") < 1e-5);
  CHECK(difference(TextOnly{SelfReplace{.group = 3}}, "self.text") < 1e-5);
  const auto pairs = SelfReplace{}(self_site(3, 4, first), q, k, v);
  CHECK(testing::largest_difference(pairs, fixture.tensor("self.pairs")) < 1e-5);
}

TEST_CASE("SelfReplace stops once its share of the run is reached", "[attention]") {
  // As released: p > i / (steps - 1). Of eleven steps, .5 covers the first five.
  const auto input = projected(2, 20);
  const auto plain = PlainAttention{}({}, input.q, input.k, input.v);
  for (std::int64_t i = 0; i < 11; ++i) {
    const auto found = SelfReplace{}(self_site(4, 5, {.index = i, .count = 11}), input.q, input.k, input.v);
    if (i >= 5) {
      CHECK(found.equal(plain));
    } else {
      CHECK(testing::largest_difference(found[1], plain[1]) > 1e-2);
      CHECK(testing::largest_difference(found[0], plain[0]) < 1e-6);  // the source, of another batch
    }
  }
}

TEST_CASE("SelfReplace takes a share for each group", "[attention]") {
  const std::vector<Branch> branches{{true, true}, {false, true}};
  const SelfReplace mixed{.shares = {0.2, 0.9, 0.4}};
  const auto input = projected(2 * 3 * 2, 20);
  for (const std::int64_t index : {0, 3, 6, 9}) {
    const auto site = self_site(4, 5, {.index = index, .count = 10}, branches);
    const auto found = mixed(site, input.q, input.k, input.v).unflatten(0, {2, 3, 2});
    for (std::int64_t g = 0; g < 3; ++g) {
      const auto own = input.images(2, 2 * g, 2);
      const SelfReplace alone{.share = mixed.shares[static_cast<std::size_t>(g)]};
      const auto expected = alone(site, own.q, own.k, own.v).unflatten(0, {2, 2});
      CHECK(testing::largest_difference(found.select(1, g), expected) < 1e-6);
    }
  }
  const auto few = projected(4, 20);
  CHECK_THROWS_WITH((mixed(self_site(4, 5, first), few.q, few.k, few.v)),
                    "SelfReplace: shares: expected one for each of 2 groups, found 3");
}

TEST_CASE("SelfReplace refuses rows that do not divide into groups", "[attention]") {
  const std::vector<Branch> branches{{true, true}, {false, true}};
  const auto input = projected(6, 20);
  CHECK_THROWS_WITH((SelfReplace{}(self_site(4, 5, first, branches), input.q, input.k, input.v)),
                    "SelfReplace: expected groups of 2 images in each of 2 branches, found 6 rows");
  CHECK_THROWS_WITH((SelfReplace{.group = 0}(self_site(4, 5, first), input.q, input.k, input.v)),
                    "SelfReplace: expected groups of at least 1 image, found 0");
}
