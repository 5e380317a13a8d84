#include "ip2p/attention/store_maps.hpp"

#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include "attention/explicit_maps.hpp"
#include "ip2p/attention/plain.hpp"
#include "ip2p/attention/prompt_to_prompt.hpp"
#include "ip2p/attention/reweight.hpp"

using namespace ip2p;

namespace {

AttentionSite map_site(std::int64_t height, std::int64_t width, std::int64_t index,
                       const std::vector<Branch>& branches) {
  return {.cross = true, .height = height, .width = width, .step = {.index = index, .count = 10}, .branches = branches};
}

}  // namespace

TEST_CASE("StoreMaps averages the text branch's maps over heads, layers and steps", "[attention]") {
  const std::vector<Branch> branches{{true, true}, {false, true}};
  const auto store = StoreMaps{}.start();
  const Observed attend(PlainAttention{}, store);
  at::Tensor expected = at::zeros({2, 77, 4, 3}, at::kDouble);
  for (std::int64_t call = 0; call < 3; ++call) {
    const auto rows = CounterNoise(static_cast<std::uint64_t>(call)).normal({4, 2, 12 + 77, 8}, 0);
    const auto q = rows.narrow(2, 0, 12);
    const auto k = rows.narrow(2, 12, 77);
    (void)attend(map_site(4, 3, call, branches), q, k, k);
    expected += testing::explicit_maps(q, k).narrow(0, 0, 2).mean(1).transpose(1, 2).unflatten(2, {4, 3}) / 3.0;
  }
  CHECK(testing::largest_difference(store->maps(4, 3), expected) < 1e-6);
  CHECK(testing::largest_difference(store->maps(4, 3).sum(1), at::ones({2, 4, 3})) < 1e-5);

  // Self-attention, branches without text and large maps leave no trace.
  const std::vector<Branch> null{{false, true}};
  const auto input = testing::attention_input(map_site(2, 2, 0, null), 2, 77);
  (void)attend(map_site(2, 2, 0, null), input.q, input.k, input.v);
  auto self = map_site(2, 2, 0, branches);
  self.cross = false;
  (void)attend(self, input.q, input.q, input.q);
  CHECK_FALSE(store->wants(map_site(33, 32, 0, branches)));
  REQUIRE(store->sizes() == std::vector{std::pair<std::int64_t, std::int64_t>{4, 3}});

  CHECK_THROWS_WITH(StoreMaps{}.start()->maps(4, 3),
                    "StoreMaps: expected cross-attention layers with maps of 4x3, found none recorded");
}

TEST_CASE("The recorder of StoreMaps serves one run", "[attention]") {
  const auto record = [](StoreMaps::Run& run, std::int64_t index, std::int64_t images = 1) {
    run.record(map_site(4, 3, index, {}), at::ones({images, 12, 77}));
  };
  const auto store = StoreMaps{}.start();
  record(*store, 0);
  record(*store, 0);
  record(*store, 1);
  CHECK_THROWS_WITH(record(*store, 2, 2),
                    "StoreMaps: expected sums [1, 77, 4, 3] as before, found [2, 77, 4, 3]: start() a recorder for "
                    "each run");
  CHECK_THROWS_WITH(record(*store, 0),
                    "StoreMaps: expected the steps of one run in order, found step 0 after step 2: start() a recorder "
                    "for each run");
  // Looking at the maps between steps does not end a run, but it ends the step.
  const auto seen = StoreMaps{}.start();
  record(*seen, 0);
  CHECK(seen->maps(4, 3).sizes() == at::IntArrayRef({1, 77, 4, 3}));
  record(*seen, 1);
  CHECK(testing::largest_difference(seen->maps(4, 3), at::ones({1, 77, 4, 3})) == 0.0);
  CHECK_THROWS_WITH(record(*seen, 1),
                    "StoreMaps: expected the steps of one run in order, found step 1 after step 1: start() a recorder "
                    "for each run");
}

TEST_CASE("Runs of a single step are told apart by their memory", "[attention]") {
  const auto store = StoreMaps{}.start();
  AttentionMemory run, other;
  const auto record = [&](AttentionMemory& memory) {
    auto site = map_site(4, 3, 0, {});
    site.step.count = 1;
    site.memory = &memory;
    store->record(site, at::ones({1, 12, 77}));
  };
  record(run);
  record(run);  // another layer
  CHECK_THROWS_WITH(record(other),
                    "StoreMaps: expected the steps of one run, found the beginning of another: start() a recorder for "
                    "each run");
  // Several recorders may watch one run.
  const auto second = StoreMaps{}.start();
  auto site = map_site(4, 3, 0, {});
  site.memory = &run;
  second->record(site, at::ones({1, 12, 77}));
  CHECK(second->sizes().size() == 1);
}

TEST_CASE("StoreMaps sees the maps that an edit makes", "[attention]") {
  const auto store = StoreMaps{}.start();
  at::Tensor scales = at::ones({77});
  scales[3] = 4.0F;
  const PromptToPrompt edit{Reweight<>{.scales = scales}};
  const auto site = map_site(4, 3, 0, {});
  const auto input = testing::attention_input(site, 2, 77);
  // 16-bit queries: the recorded maps are computed from their values, not from rounded sums.
  const auto q = input.q.to(at::kBFloat16);
  const auto k = input.k.to(at::kBFloat16);
  (void)Observed(edit, store)(site, q, k, input.v.to(at::kBFloat16));
  const auto maps = testing::explicit_maps(q, k).mean(1);
  const auto expected = at::stack({maps[0], maps[0] * scales}).transpose(1, 2).unflatten(2, {4, 3});
  CHECK(testing::largest_difference(store->maps(4, 3), expected) < 1e-5);
}

namespace {

/// Records how much of each query's attention one token gets.
struct OneToken {
  std::int64_t token;
  at::Tensor seen = {};
  std::int64_t asked = 0;

  static bool wants(const AttentionSite&) { return true; }
  at::Tensor columns(std::int64_t /*images*/, std::int64_t tokens) {
    ++asked;
    auto column = at::zeros({1, tokens, 1});
    column[0][token][0] = 1.0;
    return column;
  }
  void record(const AttentionSite&, const at::Tensor& sums) { seen = sums; }
};

}  // namespace

TEST_CASE("Recorders around each other keep their own columns, asked for once a run", "[attention]") {
  const auto input = testing::attention_input(map_site(4, 3, 0, {}), 1, 7);
  const auto maps = testing::explicit_maps(input.q, input.k).mean(1);
  const auto first = std::make_shared<OneToken>(OneToken{2}), second = std::make_shared<OneToken>(OneToken{5});
  const Observed attend(Observed(PlainAttention{}, first), second);
  AttentionMemory memory;
  for (std::int64_t index = 0; index < 3; ++index) {
    auto site = map_site(4, 3, index, {});
    site.memory = &memory;
    (void)attend(site, input.q, input.k, input.v);
    for (const auto& one : {first, second}) {
      CHECK(testing::largest_difference(one->seen, maps.narrow(2, one->token, 1)) < 1e-6);
      CHECK(one->asked == 1);
    }
  }
}
