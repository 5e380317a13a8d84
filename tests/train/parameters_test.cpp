#include "ip2p/train/parameters.hpp"

#include <ATen/ops/conv2d.h>
#include <ATen/ops/randn.h>

#include <memory>
#include <vector>

#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/prepare.hpp"
#include "support/catch.hpp"

using namespace ip2p;

TEST_CASE("Weights of convolutions are trained in the order of their gradients, with the same values", "[train]") {
  const auto conv = std::make_shared<Conv2d>(24, 40, 3, 1, 1);
  initialise(*conv, 3);
  const auto held = conv->weight;
  const auto plain = conv->weight.detach().clone();
  const auto bias = conv->bias.detach().clone();
  const auto parameters = Parameters().add(*conv, "conv");
  CHECK(held.is_contiguous(at::MemoryFormat::ChannelsLast));  // the same tensor, in place
  CHECK(held.equal(plain));
  CHECK(parameters.tensors[0].is_same(held));

  const auto x = at::randn({2, 24, 6, 5}).contiguous(at::MemoryFormat::ChannelsLast);
  const auto slope = at::randn({2, 40, 6, 5}).contiguous(at::MemoryFormat::ChannelsLast);
  ((*conv)(x)*slope).sum().backward();
  CHECK(held.grad().strides() == held.strides());

  auto wide_weight = plain.to(at::kDouble).requires_grad_(true);
  auto wide_bias = bias.to(at::kDouble).requires_grad_(true);
  (at::conv2d(x.to(at::kDouble), wide_weight, wide_bias, 1, 1) * slope.to(at::kDouble)).sum().backward();
  CHECK(held.grad().to(at::kDouble).allclose(wide_weight.grad(), 1e-5, 1e-4));
  CHECK(conv->bias.grad().to(at::kDouble).allclose(wide_bias.grad(), 1e-5, 1e-4));
}

TEST_CASE("A trained layer is used and trained on with the same tensor in the same order", "[train]") {
  const auto conv = std::make_shared<Conv2d>(40, 40, 3, 1, 1);
  initialise(*conv, 4);
  const auto parameters = Parameters().add(*conv, "conv");
  const auto x = at::randn({1, 40, 5, 5}).contiguous(at::MemoryFormat::ChannelsLast);
  const auto expected = (*conv)(x).detach();
  conv->freeze();
  prepare(*conv);
  CHECK((*conv)(x).allclose(expected, 1e-4, 1e-4));
  conv->thaw();
  CHECK(conv->weight.is_same(parameters.tensors[0]));
  CHECK(conv->weight.is_contiguous(at::MemoryFormat::ChannelsLast));
  CHECK((*conv)(x).equal(expected));
}
