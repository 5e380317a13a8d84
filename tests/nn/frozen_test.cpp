#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ip2p/codec/kl_autoencoder.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/train/parameters.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/catch.hpp"

// A model's weights stay readable whatever it was used for: those of a frozen model may be packed after its first call.

using namespace ip2p;

namespace {

UNet tiny_unet() {
  UNetConfig config;
  config.block_out_channels = {16, 32};
  config.cross_attention = {true, false};
  config.heads = {2, 2};
  config.transformer_layers = {1, 1};
  config.layers_per_block = 1;
  config.cross_attention_dim = 12;
  config.norm_num_groups = 8;
  UNet unet(config);
  initialise(unet.module(), 11);
  return unet;
}

KlAutoencoder tiny_codec() {
  KlAutoencoderConfig config;
  config.block_out_channels = {8, 16};
  config.layers_per_block = 1;
  config.norm_num_groups = 4;
  KlAutoencoder codec(config);
  initialise(codec.module(), 12);
  return codec;
}

const std::vector<std::int64_t> heights{8, 4, 12, 6};

/// A prediction over a map of another size for each `n`.
at::Tensor predict(const UNet& unet, std::size_t n = 0) {
  auto x = at::full({1, 8, heights[n], 8}, 0.25);
  x.select(3, 2).fill_(-1);
  return unet(x, at::full({1}, 100.5), at::full({1, 4, 12}, 0.5));
}

/// Encodes and decodes a picture.
at::Tensor round_trip(const KlAutoencoder& codec, std::size_t n = 0) {
  auto images = at::full({1, 3, 2 * heights[n], 8}, 0.5);
  images.select(3, 3).fill_(-0.5);
  return codec.decode(codec.encode(images));
}

std::map<std::string, at::Tensor> copy_of(std::map<std::string, at::Tensor> state) {
  for (auto& [name, tensor] : state) tensor = tensor.clone();
  return state;
}

void check_state(const Module& module, const std::map<std::string, at::Tensor>& expected) {
  const auto found = state_of(module);
  REQUIRE(found.size() == expected.size());
  for (const auto& [name, tensor] : expected) {
    INFO(name);
    REQUIRE(found.at(name).layout() == at::kStrided);
    CHECK(at::equal(found.at(name), tensor));
  }
}

std::int64_t packed_weights(const Module& module) {
  const auto all = module.parameters();
  return std::count_if(all.begin(), all.end(), [](const at::Tensor& parameter) { return parameter.is_mkldnn(); });
}

bool packs() { return ip2p::detail::can_pack(at::kFloat) && ip2p::detail::packed_convolution().has_value(); }

/// `evaluate(model, n)` in as many threads as there are heights, or two, on models that nobody has called before.
template <class Model>
void check_threads(Model (*make)(), at::Tensor (*evaluate)(const Model&, std::size_t), std::size_t threads) {
  std::vector<at::Tensor> alone;
  for (std::size_t n = 0; n < threads; ++n) {
    const at::NoGradGuard no_grad;
    auto model = make();
    model.freeze();
    alone.push_back(evaluate(model, n));
  }
  for (int repetition = 0; repetition < 40; ++repetition) {
    auto model = make();
    const auto weights = copy_of(state_of(model.module()));
    model.freeze();
    std::vector<at::Tensor> found(threads);
    std::map<std::string, at::Tensor> read;
    std::barrier start(static_cast<std::ptrdiff_t>(threads) + 1);
    std::vector<std::jthread> running;
    for (std::size_t n = 0; n < threads; ++n) {
      running.emplace_back([&, n] {
        const at::NoGradGuard no_grad;
        start.arrive_and_wait();
        found[n] = evaluate(model, n);
      });
    }
    start.arrive_and_wait();
    read = state_of(model.module());  // while they compute
    running.clear();
    INFO("repetition " << repetition);
    for (std::size_t n = 0; n < threads; ++n) REQUIRE(at::equal(found[n], alone[n]));
    for (const auto& [name, tensor] : weights) REQUIRE(at::equal(read.at(name), tensor));
  }
}

}  // namespace

TEST_CASE("A model that was used still has the same weights", "[nn]") {
  const at::NoGradGuard no_grad;
  auto unet = tiny_unet();
  auto codec = tiny_codec();
  const auto unet_state = copy_of(state_of(unet.module()));
  const auto codec_state = copy_of(state_of(codec.module()));
  unet.freeze();
  codec.freeze();
  predict(unet);
  round_trip(codec);
  if (packs()) {
    CHECK(packed_weights(unet.module()) > 5);
    CHECK(packed_weights(codec.module()) > 5);
  }
  check_state(unet.module(), unet_state);
  check_state(codec.module(), codec_state);
  for (const auto& [name, tensor] : unet.module().named_parameters()) {
    INFO(name);
    CHECK(tensor.numel() > 0);
    if (!tensor.is_mkldnn()) continue;
    // Reading it as if it were a plain tensor is an error, not a wrong value.
    CHECK(tensor.sizes() == unet_state.at(name).sizes());
    CHECK_THROWS(at::zeros_like(unet_state.at(name)).copy_(tensor));
    CHECK_THROWS(tensor.const_data_ptr());
  }
  unet.thaw();
  CHECK(packed_weights(unet.module()) == 0);
  check_state(unet.module(), unet_state);
}

TEST_CASE("A model that was used is copied and filled like one that was not", "[nn]") {
  const at::NoGradGuard no_grad;
  auto source = tiny_unet();
  source.freeze();
  const auto expected = predict(source);
  auto target = tiny_unet();
  initialise(target.module(), 99);
  target.freeze();
  predict(target);
  CHECK_FALSE(at::equal(predict(target), expected));
  copy_weights(source.module(), target.module());
  CHECK(at::equal(predict(target), expected));
  check_state(target.module(), state_of(source.module()));

  Weights weights;
  const auto other = tiny_unet();
  initialise(other.module(), 98);
  for (const auto& [name, tensor] : state_of(other.module())) {
    weights.emplace(name, WeightEntry{tensor.sizes().vec(), at::kFloat, [tensor = tensor] { return tensor; }});
  }
  load_weights(target.module(), weights, "test");
  auto again = other;
  again.freeze();
  CHECK(at::equal(predict(target), predict(again)));

  initialise(source.module(), 98);
  CHECK(at::equal(predict(source), predict(again)));
  CHECK_THROWS_WITH(copy_weights(tiny_codec().module(), source.module()), Contains("copy_weights: expected"));
}

TEST_CASE("A model that was used is trained like one that was not", "[nn]") {
  const auto gradients = [](UNet& unet) {
    const auto parameters = Parameters().add(unet.module(), "unet");
    at::mse_loss(predict(unet), at::zeros({1, 4, 8, 8})).backward();
    std::map<std::string, at::Tensor> found;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      REQUIRE(parameters.tensors[i].grad().defined());
      found[parameters.names[i]] = parameters.tensors[i].grad();
    }
    return found;
  };
  auto fresh = tiny_unet();
  const auto expected = gradients(fresh);
  const bool by_hand = GENERATE(false, true);
  auto used = tiny_unet();
  used.freeze();
  {
    const at::NoGradGuard no_grad;
    predict(used);
  }
  if (by_hand) used.thaw();
  for (const auto& [name, gradient] : gradients(used)) {
    INFO(name);
    CHECK((gradient - expected.at(name)).abs().max().item<double>() <=
          1e-5 * expected.at(name).abs().max().item<double>());
  }
}

TEST_CASE("A packed weight replaces the plain one in memory", "[nn]") {
  if (!packs()) return;
  const at::NoGradGuard no_grad;
  const auto conv = std::make_shared<Conv2d>(16, 16, 3, 1, 1);
  initialise(*conv, 1);
  conv->freeze();
  const auto memory = conv->weight.storage().getWeakStorageImpl();
  (*conv)(at::randn({1, 16, 8, 8}));
  CHECK(conv->weight.is_mkldnn());
  CHECK(memory.expired());
}

TEST_CASE("A weight that was kept while its layer was in use is the layer's own again afterwards", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto conv = std::make_shared<Conv2d>(16, 16, 3, 1, 1);
  initialise(*conv, 1);
  const auto kept = conv->weight;
  const auto value = kept.clone();
  conv->freeze();
  (*conv)(at::randn({1, 16, 8, 8}));
  CHECK(at::equal(kept, value));
  conv->thaw();
  CHECK(conv->weight.is_same(kept));
  CHECK(conv->parameter("weight").is_same(kept));
  CHECK(at::equal(conv->weight, value));
}

TEST_CASE("A frozen layer whose weight requires gradients computes them or says why not", "[nn]") {
  const auto x = at::randn({1, 16, 8, 8});
  const auto conv = std::make_shared<Conv2d>(16, 16, 3, 1, 1);
  initialise(*conv, 1);
  conv->freeze();
  conv->weight.set_requires_grad(true);
  (*conv)(x).sum().backward();
  CHECK(conv->weight.grad().defined());

  if (!packs()) return;
  conv->freeze();
  (*conv)(x);
  conv->weight.set_requires_grad(true);
  CHECK_THROWS_WITH((*conv)(x), Contains("expected plain weights to compute their gradients"));
}

TEST_CASE("Two threads that call a frozen model for the first time get what each gets alone", "[nn]") {
  check_threads<UNet>(tiny_unet, predict, 2);
  check_threads<KlAutoencoder>(tiny_codec, round_trip, 2);
}

TEST_CASE("Four threads that call a frozen model for the first time get what each gets alone", "[nn]") {
  check_threads<UNet>(tiny_unet, predict, 4);
  check_threads<KlAutoencoder>(tiny_codec, round_trip, 4);
}

namespace {

struct OnlyWeights : Module {
  OnlyWeights() { conv = register_module("conv", std::make_shared<Conv2d>(16, 16, 3, 1, 1, false)); }
  std::shared_ptr<Conv2d> conv;
};

struct OnlyWeightsModel : ModelHandle<OnlyWeights> {
  OnlyWeightsModel() : ModelHandle(std::make_shared<OnlyWeights>()) {}
};

}  // namespace

TEST_CASE("A model's device and dtype are those of its weights whatever happens to them", "[nn]") {
  const at::NoGradGuard no_grad;
  auto unet = tiny_unet();
  const auto copy = unet;
  unet.freeze();
  predict(unet);
  CHECK(unet.device() == at::kCPU);
  CHECK(unet.dtype() == at::kFloat);
  unet.to(at::kCPU, at::kBFloat16);
  CHECK(copy.dtype() == at::kBFloat16);
  CHECK(copy.module().parameters().front().scalar_type() == at::kBFloat16);
  unet.compute_in(at::kFloat);
  CHECK(unet.dtype() == at::kFloat);
  CHECK(copy.dtype() == at::kBFloat16);
  unet.module().to(at::kCPU, at::kDouble);
  CHECK(copy.dtype() == at::kDouble);
  CHECK(unet.out_channels() == 4);

  OnlyWeightsModel bare;  // its only parameter is packed
  initialise(bare.module(), 1);
  bare.freeze();
  (*bare.module().conv)(at::randn({1, 16, 8, 8}));
  CHECK(bare.dtype() == at::kFloat);
  CHECK(bare.device() == at::kCPU);
  bare.to(at::kCPU, at::kHalf);
  CHECK(bare.dtype() == at::kHalf);
}
