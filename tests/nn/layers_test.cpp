#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/measured_choice.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/catch.hpp"

namespace {

ip2p::UNetConfig small_unet_config() {
  ip2p::UNetConfig config;
  config.block_out_channels = {16, 32};
  config.cross_attention = {true, false};
  config.heads = {2, 2};
  config.transformer_layers = {1, 1};
  config.layers_per_block = 1;
  config.cross_attention_dim = 12;
  config.norm_num_groups = 8;
  return config;
}

double distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

}  // namespace

TEST_CASE("A frozen convolution gives the plain one's result, and its weights can be recovered", "[nn]") {
  const at::NoGradGuard no_grad;
  for (const auto& [kernel, stride, padding] :
       {std::array{3L, 1L, 1L}, std::array{1L, 1L, 0L}, std::array{3L, 2L, 1L}}) {
    const auto layer = std::make_shared<ip2p::Conv2d>(24, 40, kernel, stride, padding);
    auto& conv = *layer;
    ip2p::initialise(conv, 7);
    const auto before = conv.weight.clone();
    for (const auto batch : {1, 3}) {
      const auto x = at::randn({batch, 24, 9, 6}).contiguous(at::MemoryFormat::ChannelsLast);
      const auto plain = conv(x);
      conv.freeze();
      CHECK(distance(conv(x), plain) < 1e-5);
      CHECK(at::equal(conv(x), conv(x)));
      conv.thaw();
      CHECK(at::equal(conv.weight, before));
      CHECK(at::equal(conv(x), plain));
    }
  }
}

TEST_CASE("A frozen convolution accepts inputs of other sizes than the first", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto layer = std::make_shared<ip2p::Conv2d>(8, 8, 3, 1, 1);
  auto& conv = *layer;
  ip2p::initialise(conv, 7);
  const auto large = at::randn({2, 8, 33, 17});
  const auto expected = conv(large);
  conv.freeze();
  conv(at::randn({1, 8, 4, 4}));
  CHECK(distance(conv(large), expected) < 1e-5);
}

TEST_CASE("A frozen enlargement by phases equals enlarging and then convolving", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto layer = std::make_shared<ip2p::Upsample>(16);
  auto& upsample = *layer;
  ip2p::initialise(upsample, 3);
  const auto x = at::randn({2, 16, 5, 7});
  const auto doubled = upsample(x, 10, 14);
  const auto odd = upsample(x, 9, 13);
  upsample.freeze();
  CHECK(distance(upsample(x, 10, 14), doubled) < 1e-5);
  CHECK(distance(upsample(x, 9, 13), odd) < 1e-5);  // not a doubling: computed the plain way
  upsample.thaw();
  CHECK(at::equal(upsample(x, 10, 14), doubled));
}

TEST_CASE("The faster of two works is chosen once for each shape", "[nn]") {
  ip2p::detail::MeasuredChoice choice;
  int measured = 0;
  const auto seconds = [&](at::Device, double least) {
    ++measured;
    return least;
  };
  const auto x = at::zeros({1, 2, 3, 3}), other = at::zeros({2, 2, 3, 3});
  CHECK(choice.second_is_faster(x, 2.0, 1.0, seconds));
  CHECK(choice.second_is_faster(x + 1, 1.0, 2.0, seconds));  // as measured before
  CHECK(measured == 2);
  CHECK_FALSE(choice.second_is_faster(other, 1.0, 2.0, seconds));
  CHECK_FALSE(choice.second_is_faster(x.to(at::kDouble), 1.0, 1.0, seconds));
  CHECK(choice.second_is_faster(x, 1.0, 2.0, seconds));
  CHECK(measured == 6);
  choice.reset();
  CHECK_FALSE(choice.second_is_faster(x, 1.0, 2.0, seconds));

  int runs = 0;
  CHECK(ip2p::detail::seconds_on(at::kCPU, [&] { ++runs; }) >= 0.0);
  CHECK(runs == 4);
  // A CPU's results do not depend on timings.
  at::globalContext().setBenchmarkCuDNN(true);
  CHECK_FALSE(ip2p::detail::MeasuredChoice::allowed(x));
  at::globalContext().setBenchmarkCuDNN(false);
}

TEST_CASE("A frozen enlargement can double after another size", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto layer = std::make_shared<ip2p::Upsample>(16);
  auto& upsample = *layer;
  ip2p::initialise(upsample, 3);
  const auto x = at::randn({2, 16, 5, 7});
  const auto doubled = upsample(x, 10, 14);
  upsample.freeze();
  upsample.conv->freeze();
  upsample(x, 9, 13);  // the convolution takes its inference form here
  CHECK(distance(upsample(x, 10, 14), doubled) < 1e-5);
}

TEST_CASE("A frozen model moves to another dtype and back", "[nn]") {
  const at::NoGradGuard no_grad;
  ip2p::UNet unet(small_unet_config());
  ip2p::initialise(unet.module(), 11);
  const auto x = at::randn({1, 8, 8, 6});
  const auto t = at::ones({1});
  const auto context = at::randn({1, 4, 12});
  const auto plain = unet(x, t, context);
  unet.freeze();
  CHECK(distance(unet(x, t, context), plain) < 1e-5);
  unet.to(at::kCPU, at::kBFloat16);
  const auto narrow = unet(x, t, context);
  CHECK(narrow.scalar_type() == at::kBFloat16);
  CHECK(distance(narrow.to(at::kFloat), plain) < 0.05);
  unet.thaw();
  CHECK(unet.module().parameters()[0].requires_grad());
}

TEST_CASE("Weights kept in 16 bits under fp32 arithmetic give nearly the fp32 result", "[nn]") {
  const at::NoGradGuard no_grad;
  ip2p::UNet unet(small_unet_config());
  ip2p::initialise(unet.module(), 11);
  const auto x = at::randn({1, 8, 8, 6});
  const auto t = at::ones({1});
  const auto context = at::randn({1, 4, 12});
  const auto exact = unet(x, t, context);
  for (const bool frozen : {false, true}) {
    unet.to(at::kCPU, at::kHalf);
    unet.compute_in(at::kFloat);
    if (frozen) unet.freeze();
    const auto y = unet(x, t, context);
    CHECK(y.scalar_type() == at::kFloat);
    CHECK(unet.module().parameters()[0].scalar_type() == at::kHalf);
    CHECK(distance(y, exact) < 2e-3 * exact.abs().max().item<double>());
    CHECK(at::equal(unet(x, t, context), y));
  }
}

TEST_CASE("initialise depends only on the seed", "[nn]") {
  ip2p::UNet a(small_unet_config());
  ip2p::UNet b(small_unet_config());
  ip2p::initialise(a.module(), 5);
  ip2p::initialise(b.module(), 5);
  for (const auto& [name, tensor] : a.module().named_parameters()) {
    INFO(name);
    CHECK(at::equal(tensor, b.module().parameter(name)));
  }
  ip2p::initialise(b.module(), 6);
  CHECK_FALSE(at::equal(a.module().parameter("conv_in.weight"), b.module().parameter("conv_in.weight")));
}

TEST_CASE("first_non_finite names the layer where the trouble began", "[nn]") {
  const at::NoGradGuard no_grad;
  ip2p::UNet unet(small_unet_config());
  ip2p::initialise(unet.module(), 11);
  const auto evaluate = [&] { return unet(at::ones({1, 8, 8, 8}), at::ones({1}), at::ones({1, 4, 12})); };
  CHECK(unet.first_non_finite(evaluate).empty());
  for (const std::string layer : {"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_kv",
                                  "mid_block.resnets.0.conv2", "up_blocks.1.resnets.1.norm1"}) {
    auto weight = unet.module().parameter(layer + ".weight");
    const auto kept = weight.clone();
    weight.view(-1)[0].fill_(std::numeric_limits<float>::quiet_NaN());
    CHECK(unet.first_non_finite(evaluate) == layer);
    weight.copy_(kept);
  }
}

TEST_CASE("UNet refuses inputs that do not fit it", "[unet]") {
  const at::NoGradGuard no_grad;
  ip2p::UNet unet(small_unet_config());
  ip2p::initialise(unet.module(), 11);
  CHECK_THROWS_WITH(unet(at::ones({1, 4, 8, 8}), at::ones({1}), at::ones({1, 4, 12})),
                    Contains("expected [B, 8, h, w], found [1, 4, 8, 8]"));
  CHECK_THROWS_WITH(unet(at::ones({1, 8, 8, 8}), at::ones({1}), at::ones({1, 4, 13})),
                    Contains("expected [B, tokens, 12], found [1, 4, 13]"));
  CHECK_THROWS_WITH(unet(at::ones({2, 8, 8, 8}), at::ones({3}), at::ones({2, 4, 12})),
                    Contains("UNet: times[0]: expected [1, 16, 1, 1] or [2, 16, 1, 1], found [3, 16, 1, 1]"));
  CHECK_THROWS_WITH(unet(at::ones({2, 8, 8, 8}), at::ones({1, 1}), at::ones({2, 4, 12})),
                    Contains("UNet: timesteps: expected [B], found [1, 1]"));
  CHECK_THROWS_WITH(
      unet(at::ones({2, 8, 8, 8}), at::ones({1}), at::ones({1, 4, 12})),
      Contains("UNet: texts[0]: expected keys and values [2, 2, tokens, 8], found [1, 2, 4, 8] and [1, 2, 4, 8]"));
  auto config = small_unet_config();
  config.heads = {3, 2};
  CHECK_THROWS_WITH(ip2p::UNet(config), Contains("block_out_channels[0] = 16"));
}

TEST_CASE("UNet refuses projections that do not fit it", "[unet]") {
  const at::NoGradGuard no_grad;
  ip2p::UNet unet(small_unet_config());
  ip2p::initialise(unet.module(), 11);
  const auto x = at::ones({2, 8, 8, 8});
  const auto times = unet.project_time(at::ones({2}));
  const auto texts = unet.project_context(at::ones({2, 4, 12}));
  CHECK_NOTHROW(unet(x, times, texts));
  REQUIRE(times.size() == 8);
  REQUIRE(texts.size() == 4);

  auto short_times = times;
  short_times.pop_back();
  CHECK_THROWS_WITH(unet(x, short_times, texts), Contains("UNet: times: expected 8 projections, found 7"));
  auto long_texts = texts;
  long_texts.push_back(texts[0]);
  CHECK_THROWS_WITH(unet(x, times, long_texts), Contains("UNet: texts: expected 4 projections, found 5"));
  auto swapped = times;
  std::swap(swapped[0], swapped[2]);
  CHECK_THROWS_WITH(unet(x, swapped, texts),
                    Contains("UNet: times[0]: expected [1, 16, 1, 1] or [2, 16, 1, 1], found [2, 32, 1, 1]"));
  auto foreign = texts;
  foreign[1].values = foreign[1].values.narrow(2, 0, 3);
  CHECK_THROWS_WITH(unet(x, times, foreign), Contains("UNet: texts[1]") && Contains("[2, 2, 3, 16]"));

  // Two texts for each of two inputs: one row of time, as many rows of text as are requested.
  const auto rows = at::arange(4).remainder(2);
  const auto four = unet.project_context(at::ones({4, 4, 12}));
  const auto once = unet.project_time(at::ones({1}));
  CHECK(unet(x, once, four, ip2p::PlainAttention{}, {}, rows).size(0) == 4);
  CHECK_THROWS_WITH(unet(x, times, four, ip2p::PlainAttention{}, {}, rows),
                    Contains("UNet: times[0]: expected [1, 16, 1, 1], found [2, 16, 1, 1]"));
  CHECK_THROWS_WITH(unet(x, once, texts, ip2p::PlainAttention{}, {}, rows),
                    Contains("UNet: texts[0]: expected keys and values [4, 2, tokens, 8]"));
  CHECK_THROWS_WITH(unet(x, once, four, ip2p::PlainAttention{}, {}, rows.to(at::kFloat)),
                    Contains("UNet: rows: expected int64 [R], found Float [4]"));
}

namespace {

/// Notes every call and leaves attention unchanged.
struct Notebook {
  std::vector<ip2p::AttentionSite>* sites;
  at::Tensor operator()(const ip2p::AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    sites->push_back(site);
    return ip2p::PlainAttention{}(site, q, k, v);
  }
};

}  // namespace

TEST_CASE("An attention policy is asked at each layer, self before cross, with its map's size", "[unet][attention]") {
  const at::NoGradGuard no_grad;
  ip2p::UNet unet(small_unet_config());
  ip2p::initialise(unet.module(), 11);
  const auto x = at::randn({1, 8, 6, 4});
  const auto context = at::randn({1, 4, 12});
  std::vector<ip2p::AttentionSite> sites;
  const auto noted = unet(x, at::ones({1}), context, Notebook{&sites}, ip2p::Step{.index = 3, .count = 9});
  CHECK(at::equal(noted, unet(x, at::ones({1}), context)));
  CHECK(at::equal(noted, unet(x, at::ones({1}), context, ip2p::AttentionReference(ip2p::PlainAttention{}))));
  REQUIRE(sites.size() == 8);  // one transformer going down, one in the middle, two going up; self and cross
  for (std::size_t i = 0; i < sites.size(); ++i) {
    INFO(i);
    CHECK(sites[i].cross == (i % 2 == 1));
    CHECK(sites[i].layer == static_cast<std::int64_t>(i / 2));
    CHECK(sites[i].step.index == 3);
    const bool middle = i / 2 == 1;
    CHECK(sites[i].height == (middle ? 3 : 6));
    CHECK(sites[i].width == (middle ? 2 : 4));
  }
}
