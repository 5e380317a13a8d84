#include "ip2p/nn/module.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <cstdint>
#include <memory>

#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/model.hpp"
#include "ip2p/nn/new_lora.hpp"
#include "ip2p/train/parameters.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

/// A weight, a mean and a table of places.
struct Pieces : Module {
  Pieces() {
    weight = register_parameter("weight", at::full({2, 3}, 0.5));
    mean = register_buffer("mean", at::full({3}, 0.25));
    places = register_buffer("places", at::arange(4, at::kLong));
  }
  at::Tensor weight, mean, places;
};

struct TwoPieces : Module {
  TwoPieces() { inner = register_module("inner", std::make_shared<Pieces>()); }
  std::shared_ptr<Pieces> inner;
};

struct Projections : Module {
  Projections() {
    conv = register_module("conv", std::make_shared<Conv2d>(16, 16, 3, 1, 1));
    auto group = register_group("attention");
    to_q = group->register_module("to_q", std::make_shared<Linear>(16, 16));
    places = register_buffer("places", at::arange(4, at::kLong));
  }
  std::shared_ptr<Conv2d> conv;
  std::shared_ptr<Linear> to_q;
  at::Tensor places;
};

struct ProjectionsModel : ModelHandle<Projections> {
  static constexpr const char* component = "unet";
  ProjectionsModel() : ModelHandle(std::make_shared<Projections>()) { initialise(*module_, 1); }
  at::Tensor operator()(const at::Tensor& x) const { return (*module_->conv)(x); }
};

}  // namespace

TEST_CASE("A module moves alone, converts alone, or both; integers keep their dtype", "[nn]") {
  TwoPieces module;
  auto& inner = *module.inner;
  const auto held = inner.weight;
  CHECK(module.named_buffers().size() == 2);
  CHECK(module.named_buffers()[1].first == "inner.places");
  CHECK(module.named_parameters().size() == 1);

  module.to(at::kBFloat16);
  CHECK(inner.weight.scalar_type() == at::kBFloat16);
  CHECK(inner.mean.scalar_type() == at::kBFloat16);
  CHECK(inner.places.scalar_type() == at::kLong);
  CHECK(at::equal(inner.places, at::arange(4, at::kLong)));
  CHECK(inner.weight.device().is_cpu());
  CHECK(held.is_same(inner.weight));
  CHECK(held.requires_grad());
  CHECK_FALSE(inner.mean.requires_grad());

  module.to(at::kCPU);
  CHECK(inner.weight.scalar_type() == at::kBFloat16);
  CHECK(inner.places.scalar_type() == at::kLong);
  CHECK(at::equal(inner.weight, at::full({2, 3}, 0.5, at::kBFloat16)));

  module.to(at::kCPU, at::kHalf);
  CHECK(inner.weight.scalar_type() == at::kHalf);
  CHECK(inner.mean.scalar_type() == at::kHalf);
  CHECK(inner.places.scalar_type() == at::kLong);

  TwoPieces kept;
  CHECK_THROWS_WITH(kept.to(at::kLong), Contains("module: dtype: expected a floating-point one, found Long"));
  CHECK_THROWS_WITH(kept.to(at::kCPU, at::kInt), Contains("expected a floating-point one, found Int"));
  CHECK(kept.inner->weight.scalar_type() == at::kFloat);
}

TEST_CASE("A module refuses names that are taken and parameters that cannot be trained", "[nn]") {
  Module module;
  module.register_buffer("a", at::ones({1}));
  CHECK_THROWS_WITH(module.register_parameter("a", at::ones({1})), Contains("found 'a' twice"));
  CHECK_THROWS_WITH(module.register_buffer("a", at::ones({1})), Contains("found 'a' twice"));
  CHECK_THROWS_WITH(module.register_buffer("a.b", at::ones({1})), Contains("expected a name without dots"));
  CHECK_THROWS_WITH(module.register_buffer("b", at::Tensor()), Contains("buffer 'b': expected a tensor, found none"));
  CHECK_THROWS_WITH(module.register_parameter("b", at::ones({1}, at::kLong)),
                    Contains("parameter 'b': expected a floating-point tensor, found Long; one of integers is a"));
  CHECK_THROWS_WITH(module.register_parameter("b", at::Tensor()), Contains("found none"));
  CHECK(module.parameters().empty());
}

TEST_CASE("A model moves alone or converts alone, with its LoRAs and while frozen", "[nn]") {
  const at::NoGradGuard no_grad;
  ProjectionsModel model;
  auto lora = new_lora(model, {.rank = 2});
  const auto& path = *model.module().to_q->loras.at(0);
  const auto x = at::full({1, 16, 8, 8}, 0.5);
  model.freeze();
  const auto before = model(x);
  model.to(at::kHalf);
  CHECK(model.dtype() == at::kHalf);
  CHECK(path.down.scalar_type() == at::kHalf);
  CHECK(path.up.scalar_type() == at::kHalf);
  CHECK(model.module().places.scalar_type() == at::kLong);
  model.compute_in(at::kFloat);
  model.to(at::kCPU);
  CHECK(model.dtype() == at::kFloat);  // that of the arithmetic
  CHECK(model.module().to_q->weight.scalar_type() == at::kHalf);
  CHECK(path.down.scalar_type() == at::kHalf);
  CHECK((model(x) - before).abs().max().item<double>() < 1e-2);
  model.to(at::kBFloat16);
  CHECK(model.dtype() == at::kBFloat16);
}

TEST_CASE("A thawed model asks for the gradients that it asked for before it was frozen", "[nn]") {
  ProjectionsModel model;
  auto& conv = *model.module().conv;
  auto& to_q = *model.module().to_q;
  conv.bias.set_requires_grad(false);
  to_q.weight.set_requires_grad(false);
  const auto as_before = [&] {
    return conv.weight.requires_grad() && !conv.bias.requires_grad() && !to_q.weight.requires_grad() &&
           to_q.bias.requires_grad();
  };
  const auto none = [&] {
    for (const auto& parameter : model.module().parameters()) {
      if (parameter.requires_grad()) return false;
    }
    return true;
  };
  model.thaw();  // It never was frozen.
  CHECK(as_before());
  model.freeze();
  CHECK(none());
  model.freeze();  // Again.
  {
    const at::NoGradGuard no_grad;
    model(at::full({1, 16, 8, 8}, 0.5));  // The weight may be packed now.
  }
  model.to(at::kCPU, at::kFloat);
  CHECK(none());
  model.thaw();
  CHECK(as_before());
  CHECK(conv.parameter("weight").requires_grad());

  // One layer alone.
  conv.freeze();
  CHECK_FALSE(conv.weight.requires_grad());
  conv.thaw();
  CHECK(as_before());

  // What was made to ask meanwhile goes on asking.
  model.freeze();
  to_q.weight.set_requires_grad(true);
  model.thaw();
  CHECK(to_q.weight.requires_grad());
  CHECK_FALSE(conv.bias.requires_grad());
}

TEST_CASE("Training asks for all gradients of a frozen model, a LoRA for none of them", "[nn]") {
  ProjectionsModel model;
  model.module().to_q->weight.set_requires_grad(false);
  model.freeze();
  for (const auto& tensor : Parameters().add(model).tensors) CHECK(tensor.requires_grad());
  model.module().to_q->bias.set_requires_grad(false);
  model.freeze();
  model.thaw();
  CHECK_FALSE(model.module().to_q->bias.requires_grad());
  CHECK(model.module().to_q->weight.requires_grad());

  ProjectionsModel base;
  base.freeze();
  const auto lora = new_lora(base, {.rank = 2});
  base.thaw();
  for (const auto& parameter : base.module().parameters()) CHECK_FALSE(parameter.requires_grad());
  for (const auto& [name, tensor] : lora.tensors()) CHECK(tensor.requires_grad());
  base.module().set_requires_grad(true);
  for (const auto& parameter : base.module().parameters()) CHECK(parameter.requires_grad());
}
