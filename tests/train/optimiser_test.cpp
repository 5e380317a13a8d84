#include "ip2p/train/adamw.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <limits>
#include <vector>

#include "ip2p/train/dropout.hpp"
#include "ip2p/train/ema.hpp"
#include "ip2p/train/gradients.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

void require_values(const at::Tensor& tensor, const std::vector<double>& expected) {
  const auto flat = tensor.detach().flatten();
  REQUIRE(flat.numel() == static_cast<std::int64_t>(expected.size()));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(flat[static_cast<std::int64_t>(i)].item<double>() == Approx(expected[i]).epsilon(2e-6).margin(1e-8));
  }
}

at::Tensor leaf(at::Tensor value) { return value.set_requires_grad(true); }

}  // namespace

// Golden values: tests/parity/make_train_fixtures.py (torch.optim.AdamW).
TEST_CASE("AdamW makes the updates of torch.optim.AdamW", "[train]") {
  auto weights = leaf(at::tensor({0.5, -1.0, 2.0, 0.25, 0.0, -3.0}).to(at::kFloat).view({2, 3}));
  auto bias = leaf(at::tensor({1.0, -1.0}).to(at::kFloat));
  auto untouched = leaf(at::tensor({4.0}).to(at::kFloat));
  AdamW optimiser({weights, bias, untouched});
  for (int step = 0; step < 3; ++step) {
    weights.mutable_grad() = at::tensor({0.1, -0.2, 0.3, 1.0, 0.5, -0.25}).to(at::kFloat).view({2, 3}) * (step + 1);
    bias.mutable_grad() = at::tensor({2.0, -0.01}).to(at::kFloat) / (step + 1);
    optimiser.step(0.01 * (step + 1));
  }
  require_values(weights, {0.44166714, -0.941367269, 1.94076729, 0.19181715, -0.0580328852, -2.94016767});
  require_values(bias, {0.944572389, -0.944572449});
  require_values(untouched, {4.0});  // no gradient: not even weight decay
}

TEST_CASE("AdamW reads a gradient by position, not in the order of memory", "[train]") {
  // What `torch::autograd::grad` returns for the weight of a linear layer is a transposed view.
  const auto gradient = at::tensor({0.1, -0.2, 0.3, 1.0, -0.5, -0.25}).to(at::kFloat).view({3, 2}).t();
  auto viewed = leaf(at::zeros({2, 3}));
  auto copied = leaf(at::zeros({2, 3}));
  viewed.mutable_grad() = gradient;
  copied.mutable_grad() = gradient.contiguous();
  AdamW({viewed}).step(0.01);
  AdamW({copied}).step(0.01);
  CHECK(viewed.equal(copied));
  CHECK(viewed.sign().equal(-gradient.sign()));  // the first update is the rate against the gradient's sign
}

TEST_CASE("clip_gradients scales the joint norm like torch.nn.utils.clip_grad_norm_", "[train]") {
  auto weights = leaf(at::zeros({2, 3}));
  auto bias = leaf(at::zeros({2}));
  weights.mutable_grad() = at::tensor({0.1, -0.2, 0.3, 1.0, 0.5, -0.25}).to(at::kFloat).view({2, 3});
  bias.mutable_grad() = at::tensor({2.0, -0.01}).to(at::kFloat);
  CHECK(clip_gradients({weights, bias}, 10.0).item<double>() == Approx(2.33508039));
  require_values(bias.grad(), {2.0, -0.01});
  CHECK(clip_gradients({weights, bias}, 1.0).item<double>() == Approx(2.33508039));
  require_values(weights.grad(), {0.0428250618, -0.0856501237, 0.128475189, 0.428250611, 0.214125305, -0.107062653});
  require_values(bias.grad(), {0.856501222, -0.00428250618});
}

TEST_CASE("Gradients are clipped on a device by the factor that the host would find", "[train]") {
  for (const float norm : {0.0F, 0.3F, 0.1F, 1.7F, 2.33508039F, 1e30F}) {
    for (const double limit : {0.1, 0.3, 1.0, 3.0}) {
      const auto wide = static_cast<double>(norm);
      const auto expected = static_cast<float>(wide > limit ? limit / wide : 1.0);
      CHECK(ip2p::detail::clip_factor(at::tensor(norm), limit).item<float>() == expected);
    }
  }
  // A norm that is no number scales nothing, as on the host.
  CHECK(ip2p::detail::clip_factor(at::tensor(std::numeric_limits<float>::quiet_NaN()), 1.0).item<float>() == 1.0F);
  CHECK(ip2p::detail::clip_factor(at::tensor(std::numeric_limits<float>::infinity()), 1.0).item<float>() == 0.0F);
  CHECK(ip2p::detail::clip_factor(at::empty({}, at::kMeta), 1.0).device() == at::Device(at::kMeta));  // reads nothing
  CHECK(clip_gradients({leaf(at::zeros({2}))}, 1.0).item<double>() == 0.0);
}

TEST_CASE("Parameters that were moved away from what trains them are refused in words", "[train]") {
  const std::vector<at::Tensor> here{at::zeros({2}), at::zeros({2})}, moved{here[0], at::empty({2}, at::kMeta)};
  CHECK_NOTHROW(ip2p::detail::require_beside("AdamW", here, here));
  CHECK_THROWS_WITH(
      ip2p::detail::require_beside("AdamW", here, moved),
      Catch::Contains("AdamW: expected parameters on cpu, where its own tensors are, found them on meta"));
}

TEST_CASE("ExponentialAverage warms up as min(decay, (1 + n) / (10 + n)) and swaps losslessly", "[train]") {
  auto weight = at::tensor({1.0, -2.0}).to(at::kFloat);
  ExponentialAverage average({weight}, 0.5);
  CHECK(average.decay_at(1) == Approx(2.0 / 11.0));
  CHECK(average.decay_at(7) == Approx(8.0 / 17.0));
  CHECK(average.decay_at(8) == Approx(0.5));
  CHECK(average.decay_at(1000) == Approx(0.5));

  weight.fill_(3.0);
  average.update();
  const double first = 2.0 / 11.0;
  require_values(average.average()[0], {first * 1.0 + (1 - first) * 3.0, first * -2.0 + (1 - first) * 3.0});
  const auto before = average.average()[0].clone();
  average.swap();
  CHECK(weight.equal(before));
  average.swap();
  require_values(weight, {3.0, 3.0});
  CHECK(average.average()[0].equal(before));
  CHECK_THROWS_WITH(ExponentialAverage({weight}, 1.0), Catch::Contains("EMA decay") && Catch::Contains("[0, 1)"));
}

TEST_CASE("ConditioningDropout divides u into text, both and image like the released code", "[train]") {
  const ConditioningDropout published;
  CHECK(published.drop(0.0) == Dropped{true, false});
  CHECK(published.drop(0.049) == Dropped{true, false});
  CHECK(published.drop(0.051) == Dropped{true, true});
  CHECK(published.drop(0.099) == Dropped{true, true});
  CHECK(published.drop(0.101) == Dropped{false, true});
  CHECK(published.drop(0.149) == Dropped{false, true});
  CHECK(published.drop(0.151) == Dropped{false, false});
  CHECK(published.drop(0.999) == Dropped{false, false});
  const ConditioningDropout no_text{.text = 0.0, .both = 0.1, .image = 0.0};
  CHECK(no_text.drop(0.0) == Dropped{true, true});
  CHECK(no_text.drop(0.1) == Dropped{false, false});
  CHECK(NoDropout{}.drop(0.0) == Dropped{});
}
