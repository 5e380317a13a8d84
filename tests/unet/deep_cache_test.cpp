#include "ip2p/unet/deep_cache.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <set>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/pipeline/load.hpp"
#include "ip2p/testing/check_network.hpp"
#include "ip2p/unet/any_network.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/catch.hpp"
#include "support/reference.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

UNet unet_to_cache() { return load<UNet>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p"))); }

}  // namespace

TEST_CASE("DeepCache keeps the laws of networks", "[unet][deep_cache]") {
  const at::NoGradGuard no_grad;
  const auto unet = unet_to_cache();
  const NetworkCheck check{.context_width = unet.config().cross_attention_dim};
  check_network(DeepCache(unet), check);
  check_network(AnyNetwork(DeepCache(AnyNetwork(unet), {.interval = 2, .shallow = 1})), check);
}

TEST_CASE("Going on from the features of the same input is exact, wherever the shallow part ends",
          "[unet][deep_cache]") {
  const at::NoGradGuard no_grad;
  const auto unet = unet_to_cache();
  const auto times = unet.project_time(at::tensor({601.0F}));
  const auto texts = unet.project_context(CounterNoise(2).normal({3, 77, unet.config().cross_attention_dim}, 0));
  const auto rows = at::tensor({std::int64_t{0}, std::int64_t{1}, std::int64_t{0}});
  for (const std::int64_t width : {8, 11}) {
    const auto x = CounterNoise(1).normal({2, unet.in_channels(), 8, width}, 0);
    const auto other = CounterNoise(1).normal({2, unet.in_channels(), 8, width}, 1);
    const auto expected = unet(x, times, texts, PlainAttention{}, {}, rows);
    for (std::int64_t shallow = 1; shallow < unet.skip_connections(); ++shallow) {
      INFO(shallow << " of " << unet.skip_connections());
      at::Tensor deep;
      CHECK(at::equal(unet.with_deep_features(x, times, texts, PlainAttention{}, {}, rows, shallow, deep), expected));
      REQUIRE(deep.defined());
      const auto kept = deep.clone();
      std::vector<AttentionSite> sites;
      CHECK(at::equal(unet.with_deep_features(x, times, texts, NotingAttention{&sites}, {}, rows, shallow, deep),
                      expected));
      CHECK(at::equal(deep, kept));
      // The layers that are evaluated keep their numbers, in the order of evaluation, and others are left out.
      std::vector<AttentionSite> all;
      static_cast<void>(unet(x, times, texts, NotingAttention{&all}, {}, rows));
      CHECK(sites.size() < all.size());
      std::set<std::int64_t> layers;
      for (const auto& site : sites) {
        layers.insert(site.layer);
        CHECK(all[static_cast<std::size_t>(2 * site.layer + (site.cross ? 1 : 0))].width == site.width);
      }
      CHECK(2 * layers.size() == sites.size());
      // Another input goes on from its own shallow part.
      CHECK_FALSE(
          at::equal(unet.with_deep_features(other, times, texts, PlainAttention{}, {}, rows, shallow, deep), expected));
    }
  }
}

TEST_CASE("DeepCache refuses what does not fit in one sentence", "[unet][deep_cache]") {
  const at::NoGradGuard no_grad;
  const auto unet = unet_to_cache();
  CHECK_THROWS_WITH(DeepCache(unet, {.interval = 0}), Contains("DeepCache: interval: expected at least 1, found 0"));
  CHECK_THROWS_WITH(DeepCache(unet, {.shallow = 0}), Contains("DeepCache: shallow: expected at least 1"));
  const auto times = unet.project_time(at::tensor({601.0F}));
  const auto texts = unet.project_context(CounterNoise(2).normal({1, 77, unet.config().cross_attention_dim}, 0));
  const auto x = CounterNoise(1).normal({1, unet.in_channels(), 8, 8}, 0);
  at::Tensor deep;
  const auto call = [&](std::int64_t shallow) {
    return unet.with_deep_features(x, times, texts, PlainAttention{}, {}, {}, shallow, deep);
  };
  CHECK_THROWS_WITH(call(unet.skip_connections()), Contains("UNet: shallow: expected 1 to"));
  static_cast<void>(call(2));
  deep = deep.narrow(2, 0, 4);
  CHECK_THROWS_WITH(call(2), Contains("UNet: deep features: expected [1, "));
}
