#include "ip2p/nn/checkpointed.hpp"

#include <ATen/ops/bernoulli.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <optional>
#include <thread>
#include <vector>

#include "ip2p/attention/self_replace.hpp"
#include "ip2p/nn/apply_lora.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/unet/checkpoint_gradients.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

/// A small UNet with every kind of layer, ready to be trained.
UNet two_level_unet() {
  UNetConfig config;
  config.block_out_channels = {8, 16};
  config.cross_attention = {true, false};
  config.heads = {2, 2};
  config.transformer_layers = {2, 1};
  config.layers_per_block = 1;
  config.cross_attention_dim = 12;
  config.norm_num_groups = 4;
  UNet unet(config);
  initialise(unet.module(), 3);
  return unet;
}

struct TrainingInputs {
  TrainingInputs() {
    at::manual_seed(5);
    x = at::randn({2, 8, 6, 10});
    times = at::randn({2}).abs() * 300;
    context = at::randn({2, 5, 12});
    wanted = at::randn({2, 4, 6, 10});
  }
  at::Tensor x, times, context, wanted;
};

/// Gradients of every parameter by Tensor::backward().
std::vector<at::Tensor> gradients(const UNet& unet, const TrainingInputs& in) {
  for (auto& parameter : unet.module().parameters()) {
    parameter.set_requires_grad(true);
    parameter.mutable_grad().reset();
  }
  at::mse_loss(unet(in.x, in.times, in.context), in.wanted).backward();
  std::vector<at::Tensor> all;
  for (const auto& parameter : unet.module().parameters()) all.push_back(parameter.grad());
  return all;
}

void require_close(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    INFO("parameter " << i);
    REQUIRE(found[i].defined());
    // A map that a segment uses twice and a skip connection once more gets the same sum in a different order.
    REQUIRE((found[i] - expected[i]).abs().max().item<double>() <= 1e-5 * expected[i].abs().max().item<double>());
  }
}

}  // namespace

TEST_CASE("a checkpointed UNet gives the same output, bit for bit, and the same gradients", "[nn]") {
  const auto unet = two_level_unet();
  const TrainingInputs in;
  const auto plain = unet(in.x, in.times, in.context);
  const auto expected = gradients(unet, in);
  checkpoint_gradients(unet);
  const auto output = unet(in.x, in.times, in.context);
  REQUIRE(output.requires_grad());
  REQUIRE(output.equal(plain));
  require_close(gradients(unet, in), expected);
}

TEST_CASE("a checkpointed UNet gives gradients of its inputs", "[nn]") {
  const auto unet = two_level_unet();
  const TrainingInputs in;
  for (auto& parameter : unet.module().parameters()) parameter.set_requires_grad(false);
  const auto of_inputs = [&] {
    const auto x = in.x.detach().clone().requires_grad_();
    const auto context = in.context.detach().clone().requires_grad_();
    const auto loss = at::mse_loss(unet(x, in.times, context), in.wanted);
    return torch::autograd::grad({loss}, {x, context});
  };
  const auto expected = of_inputs();
  checkpoint_gradients(unet);
  require_close(of_inputs(), expected);
}

namespace {

/// Plain attention times a factor that is destroyed with the policy.
class Scaled {
 public:
  explicit Scaled(double factor) : factor_(new double(factor)) {}
  Scaled(const Scaled& other) : Scaled(*other.factor_) {}
  Scaled& operator=(const Scaled&) = delete;
  ~Scaled() {
    *factor_ = 1e6;
    delete factor_;
  }

  at::Tensor operator()(const AttentionSite& site, const at::Tensor& q, const at::Tensor& k,
                        const at::Tensor& v) const {
    return PlainAttention{}(site, q, k, v) * *factor_;
  }

 private:
  double* factor_;
};

}  // namespace

TEST_CASE("a checkpointed UNet can call an attention policy again after the caller's is gone", "[nn]") {
  const auto unet = two_level_unet();
  const TrainingInputs in;
  const auto of_policy = [&] {
    const auto x = in.x.detach().clone().requires_grad_();
    auto output = unet(x, in.times, in.context, Scaled(0.5));  // gone before the backward pass
    return torch::autograd::grad({at::mse_loss(output, in.wanted)}, {x});
  };
  const auto expected = of_policy();
  checkpoint_gradients(unet);
  require_close(of_policy(), expected);
}

TEST_CASE("checkpointing keeps fewer tensors between the passes", "[nn]") {
  // The segment's intermediate result lives as long as a graph holds it.
  const auto x = at::randn({4}).requires_grad_();
  std::optional<c10::weak_intrusive_ptr<c10::StorageImpl>> inner;
  const Segment segment = [&](at::TensorList in) {
    const auto middle = in[0].exp();  // its backward pass needs its result
    inner.emplace(middle.storage().getWeakStorageImpl());
    return middle * 2;
  };
  const auto kept = segment({x});
  REQUIRE_FALSE(inner->expired());
  const auto forgotten = checkpointed(segment, {x}, {});
  REQUIRE(inner->expired());
  forgotten.sum().backward();
  REQUIRE(x.grad().equal(x.detach().exp() * 2));
}

TEST_CASE("the second evaluation draws the same random numbers and leaves the generator where it was", "[nn]") {
  const auto x = at::randn({64}).requires_grad_();
  std::vector<at::Tensor> masks;
  const Segment segment = [&](at::TensorList in) {
    masks.push_back(at::bernoulli(at::ones_like(in[0]) * 0.5));
    return in[0] * masks.back();
  };
  at::manual_seed(11);
  const auto y = checkpointed(segment, {x}, {});
  const auto next = at::randn({3});
  y.sum().backward();
  REQUIRE(masks.size() == 2);
  REQUIRE(masks[0].equal(masks[1]));
  REQUIRE(x.grad().equal(masks[0]));
  at::manual_seed(11);
  (void)at::bernoulli(at::ones_like(x) * 0.5);
  REQUIRE(at::randn({3}).equal(next));
}

TEST_CASE("the second evaluation runs under the autocast of the first", "[nn]") {
  const auto weight = at::randn({8, 8}).requires_grad_();
  std::vector<at::ScalarType> dtypes;
  const Segment segment = [&](at::TensorList in) {
    const auto y = at::linear(in[0], weight);
    dtypes.push_back(y.scalar_type());
    return y;
  };
  const auto x = at::randn({2, 8});
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::increment_nesting();
  const auto y = checkpointed(segment, {x}, {weight});
  at::autocast::decrement_nesting();
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  y.sum().backward();
  REQUIRE(dtypes == std::vector<at::ScalarType>{at::kBFloat16, at::kBFloat16});
  REQUIRE(weight.grad().defined());
  REQUIRE(weight.grad().abs().sum().item<float>() > 0);
  REQUIRE_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
}

TEST_CASE("several threads differentiate one checkpointed network at once", "[nn]") {
  const auto unet = two_level_unet();
  const TrainingInputs in;
  const auto parameters = [&] {
    auto all = unet.module().parameters();
    for (auto& parameter : all) parameter.set_requires_grad(true);
    return all;
  }();
  const auto once = [&] {
    const auto loss = at::mse_loss(unet(in.x, in.times, in.context), in.wanted);
    return torch::autograd::grad({loss}, parameters);
  };
  const auto expected = once();
  checkpoint_gradients(unet);
  std::vector<at::Tensor> first, second;
  {
    const std::jthread other([&] { second = once(); });
    first = once();
  }
  require_close(first, expected);
  for (std::size_t i = 0; i < first.size(); ++i) REQUIRE(first[i].equal(second[i]));
}

TEST_CASE("an attention policy applies in both evaluations of a checkpointed network", "[nn]") {
  const auto unet = two_level_unet();
  const TrainingInputs in;
  const auto parameters = unet.module().parameters();
  for (auto parameter : parameters) parameter.set_requires_grad(true);
  const auto once = [&] {
    const auto loss = at::mse_loss(unet(in.x, in.times, in.context, SelfReplace{}), in.wanted);
    return torch::autograd::grad({loss}, parameters);
  };
  const auto expected = once();
  checkpoint_gradients(unet);
  require_close(once(), expected);
}
