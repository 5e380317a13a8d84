#include "ip2p/attention/store_maps.hpp"

#include <ATen/ops/cat.h>

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
  const auto store = std::make_shared<StoreMaps>();
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

  CHECK_THROWS_WITH(
      attend(map_site(4, 3, 0, {}), at::ones({1, 2, 12, 8}), at::ones({1, 2, 77, 8}), at::ones({1, 2, 77, 8})),
      "recorded maps: expected [2, 77, 4, 3] as before, found [1, 77, 4, 3]: clear() them before another "
      "run");
  store->clear();
  CHECK(store->sizes().empty());
  CHECK_THROWS_WITH(store->maps(4, 3),
                    "StoreMaps: expected cross-attention layers with maps of 4x3, found none recorded");
}

TEST_CASE("StoreMaps sees the maps that an edit makes", "[attention]") {
  const auto store = std::make_shared<StoreMaps>();
  at::Tensor scales = at::ones({77});
  scales[3] = 4.0F;
  const PromptToPrompt edit{Reweight<>{.scales = scales}};
  const auto site = map_site(4, 3, 0, {});
  const auto input = testing::attention_input(site, 2, 77);
  // 16-bit queries: the recorded maps are those of their values, not of rounded sums.
  const auto q = input.q.to(at::kBFloat16);
  const auto k = input.k.to(at::kBFloat16);
  (void)Observed(edit, store)(site, q, k, input.v.to(at::kBFloat16));
  const auto maps = testing::explicit_maps(q, k).mean(1);
  const auto expected = at::stack({maps[0], maps[0] * scales}).transpose(1, 2).unflatten(2, {4, 3});
  CHECK(testing::largest_difference(store->maps(4, 3), expected) < 1e-5);
}
