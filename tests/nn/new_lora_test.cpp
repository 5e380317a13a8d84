#include "ip2p/nn/new_lora.hpp"

#include <ATen/ops/mse_loss.h>
#include <ATen/ops/zeros_like.h>

#include <string>

#include "ip2p/pipeline/load.hpp"
#include "ip2p/train/adamw.hpp"
#include "ip2p/unet/unet.hpp"
#include "support/reference.hpp"

using namespace ip2p;
using namespace ip2p::testing;

namespace {

UNet trainable_unet() {
  return load<UNet>(ModelFiles::open(fixture("pipeline/fixtures/tiny-ip2p")), {.inference = false});
}

struct SquareInputs {
  SquareInputs() {
    const auto file = SafetensorsFile::open(fixture("unet/fixtures/sd1-expected.safetensors"));
    x = file.tensor("square.x");
    t = file.tensor("square.t");
    context = file.tensor("square.context");
  }
  at::Tensor x, t, context;
};

}  // namespace

TEST_CASE("a new LoRA changes nothing until it is trained, and comes off exactly", "[lora]") {
  const auto unet = trainable_unet();
  const SquareInputs in;
  const auto evaluate = [&] {
    const at::NoGradGuard no_grad;
    return unet(in.x, in.t, in.context);
  };
  // LibTorch multiplies in a different order if weights require gradients.
  for (auto& parameter : unet.module().parameters()) parameter.set_requires_grad(false);
  const auto before = evaluate();
  auto lora = new_lora(unet, {.rank = 2});
  REQUIRE(evaluate().equal(before));

  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : lora.tensors()) {
    REQUIRE(tensor.scalar_type() == at::kFloat);
    tensors.push_back(tensor);
  }
  AdamW optimiser(tensors);
  const auto loss = [&] {
    const auto y = unet(in.x, in.t, in.context);
    return at::mse_loss(y, at::zeros_like(y));
  };
  const double first = loss().item<double>();
  for (int i = 0; i < 10; ++i) {
    optimiser.zero_gradients();
    loss().backward();
    optimiser.step(1e-2);
  }
  REQUIRE(loss().item<double>() < 0.98 * first);
  for (const auto& parameter : unet.module().parameters()) {
    REQUIRE_FALSE(parameter.requires_grad());
    REQUIRE_FALSE(parameter.grad().defined());
  }
  REQUIRE_FALSE(evaluate().equal(before));
  lora.remove();
  REQUIRE(evaluate().equal(before));
}

TEST_CASE("a new LoRA is on every attention projection by default, and depends only on the seed", "[lora]") {
  const auto layers = [](const NewLoraOptions& options) {
    const auto unet = trainable_unet();
    return new_lora(unet, options).tensors();
  };
  const auto all = layers({.rank = 2, .seed = 4});
  std::size_t expected = 0;
  for (const auto& [name, target] : ip2p::detail::lora_targets(trainable_unet().module(), "unet")) {
    for (const std::string end : {".to_q", ".to_k", ".to_v", ".to_out.0"})
      expected += target.name.ends_with(end) ? 2 : 0;
  }
  REQUIRE(expected > 0);
  REQUIRE(all.size() == expected);
  const auto again = layers({.rank = 2, .seed = 4});
  const auto other = layers({.rank = 2, .seed = 5});
  for (const auto& [name, tensor] : all) {
    REQUIRE(tensor.equal(again.at(name)));
    if (name.ends_with("lora_up.weight")) REQUIRE(tensor.abs().max().item<float>() == 0);
    if (name.ends_with("lora_down.weight")) REQUIRE_FALSE(tensor.equal(other.at(name)));
  }
  const auto some = layers({.rank = 1, .layers = {".attn2.to_q", ".conv1"}});
  REQUIRE_FALSE(some.empty());
  for (const auto& [name, tensor] : some) {
    REQUIRE((name.find(".attn2.to_q.") != name.npos || name.find(".conv1.") != name.npos));
  }
}

TEST_CASE("a new LoRA that fits nowhere is refused", "[lora]") {
  const auto unet = trainable_unet();
  REQUIRE_THROWS_WITH(new_lora(unet, {.rank = 0}), Catch::Contains("rank: expected at least 1, found 0"));
  REQUIRE_THROWS_WITH(new_lora(unet, {.layers = {".nowhere"}}),
                      Catch::Contains("layers of the unet whose names end with .nowhere, found none"));
}
