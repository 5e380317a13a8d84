#include "ip2p/train/precision.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <limits>
#include <string>
#include <vector>

#include "ip2p/core/autograd.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/elsewhere.hpp"
#include "support/golden.hpp"
#include "support/paths.hpp"
#include "support/threads.hpp"

using namespace ip2p;
using ip2p::testing::golden;
using ip2p::testing::golden_tensor;
using ip2p::testing::ScratchDir;

namespace {

/// w . (1, 0.5) * factor: the loss of the fixture.
struct Line {
  at::Tensor weight;
  std::vector<double> factors;

  at::Tensor operator()(std::int64_t step, std::int64_t, std::int64_t) const {
    return (weight * at::tensor({1.0F, 0.5F})).sum() * factors.at(static_cast<std::size_t>(step));
  }
};

at::Tensor start() { return at::tensor({1.0F, -2.0F}).set_requires_grad(true); }

TrainingOptions scaled_options(std::int64_t growth_interval = 3) {
  TrainingOptions options;
  options.loss_scaler = LossScalerOptions{.growth_interval = growth_interval};
  return options;
}

/// A linear layer and a convolution, whose products fp16 autocast computes.
struct SmallNetwork {
  at::Tensor matrix = CounterNoise(1).normal({1, 6, 5}, 0)[0].clone().set_requires_grad(true);
  at::Tensor filter = CounterNoise(2).normal({1, 3, 2, 3, 3}, 0)[0].clone().set_requires_grad(true);

  [[nodiscard]] Parameters parameters() const { return {{"matrix", "filter"}, {matrix, filter}}; }

  at::Tensor operator()(std::int64_t step, std::int64_t part, std::int64_t parts) const {
    const std::int64_t count = 4 / parts;
    const CounterNoise noise(3, static_cast<std::uint32_t>(part * count));
    const Autocast autocast(at::kCPU, at::kHalf);
    const auto rows = at::linear(noise.normal({count, 5}, 2 * step), matrix);
    const auto maps = at::conv2d(noise.normal({count, 2, 6, 6}, 2 * step + 1), filter);
    return rows.to(at::kFloat).square().mean() + maps.to(at::kFloat).square().mean();
  }
};

}  // namespace

TEST_CASE("Autocast computes products in 16 bits, the rest in fp32, and leaves no trace", "[train]") {
  const auto x = at::ones({2, 3});
  const auto weight = at::ones({4, 3}).set_requires_grad(true);
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const Autocast outer(at::kCPU, dtype);
    CHECK(at::linear(x, weight).scalar_type() == dtype);
    CHECK(at::mse_loss(at::linear(x, weight), at::ones({2, 4})).scalar_type() == at::kFloat);
    {
      const Autocast inner(at::kCPU, at::kFloat);  // does nothing
      CHECK(at::linear(x, weight).scalar_type() == dtype);
    }
    CHECK(weight.scalar_type() == at::kFloat);
  }
  CHECK(at::linear(x, weight).scalar_type() == at::kFloat);
  CHECK_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
}

TEST_CASE("Norms keep fp32 weights under autocast, and products give the bits of PyTorch's", "[train]") {
  // 1 + 2^-8 and 2^-12 beside it are 1 and another number in bf16.
  const auto weights = at::ones({8}) + at::arange(8) * 0x1p-12 + 0x1p-8;
  const auto x = at::randn({2, 8, 4, 4}).contiguous(at::MemoryFormat::ChannelsLast);
  GroupNorm group(4, 8, 1e-5);
  LayerNorm layer(8);
  for (auto* tensor : {&group.weight, &layer.weight}) tensor->detach().copy_(weights);
  for (auto* tensor : {&group.bias, &layer.bias}) tensor->detach().copy_(weights - 1.0);
  Linear linear(8, 5);
  initialise(linear, 3);

  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const Autocast autocast(at::kCPU, dtype);
    const auto narrow = x.to(dtype);
    const auto rows = narrow.permute({0, 2, 3, 1});
    CHECK(group(narrow).equal(at::group_norm(narrow, 4, group.weight, group.bias, 1e-5)));
    CHECK(layer(rows).equal(at::layer_norm(rows, {8}, layer.weight, layer.bias, 1e-5)));
    CHECK(linear(rows).equal(at::linear(rows, linear.weight, linear.bias)));
    CHECK(linear(rows).scalar_type() == dtype);
    // Weights rounded to 16 bits would show.
    const auto round = [&](const at::Tensor& weight) { return weight.to(dtype).to(at::kFloat); };
    CHECK_FALSE(layer(rows).equal(at::layer_norm(rows, {8}, round(layer.weight), round(layer.bias), 1e-5)));
  }
  // The gradient reaches the fp32 weights.
  const auto loss = [&] {
    const Autocast autocast(at::kCPU, at::kBFloat16);
    return group(x.to(at::kBFloat16).set_requires_grad(true)).to(at::kFloat).square().mean();
  }();
  loss.backward();
  CHECK(group.weight.grad().scalar_type() == at::kFloat);
  const auto rounded = x.to(at::kBFloat16).to(at::kFloat).contiguous();
  const auto wide = at::group_norm(rounded, 4, group.weight, group.bias, 1e-5);
  const auto expected = ip2p::detail::gradients_of(wide.square().mean(), {group.weight}).front();
  CHECK(group.weight.grad().sub(expected).abs().max().item<double>() < 0.02 * expected.abs().max().item<double>());
  // Without autocast, weights kept in 16 bits are widened to the arithmetic.
  Linear stored(8, 5);
  initialise(stored, 3);
  stored.weight.set_data(stored.weight.detach().to(at::kBFloat16));
  stored.bias.set_data(stored.bias.detach().to(at::kBFloat16));
  CHECK(stored(at::ones({1, 8})).scalar_type() == at::kFloat);
}

TEST_CASE("An update reads its losses once, however many parts it has", "[train]") {
  const auto reads = [](std::int64_t parts) {
    const SmallNetwork small;
    TrainingOptions options;
    options.accumulate = parts;
    Trainer run(small.parameters(), small, ConstantRate{1e-2}, options);
    run.advance();
    const ip2p::testing::Traffic traffic;
    run.advance();
    return traffic.reads();
  };
  // The losses are one copy to the host; AdamW on a CPU reads the number of updates of its two parameters.
  CHECK(reads(1) == 2);
  CHECK(reads(4) == reads(1));
}

// Golden values: tests/parity/make_optimiser_fixtures.py.
TEST_CASE("A scaled run makes the updates of torch.amp.GradScaler and skips the same ones", "[train]") {
  const auto fixture = golden("train/fixtures/loss_scaler.json");
  const LossScalerOptions defaults;
  CHECK(defaults.initial_scale == fixture["defaults"]["scale"].get<double>());
  CHECK(defaults.growth_factor == fixture["defaults"]["growth_factor"].get<double>());
  CHECK(defaults.backoff_factor == fixture["defaults"]["backoff_factor"].get<double>());
  CHECK(defaults.growth_interval == fixture["defaults"]["growth_interval"].get<std::int64_t>());

  Line line{start(), {}};
  for (const auto& update : fixture["updates"]) line.factors.push_back(update["factor"]);
  auto options = scaled_options(fixture["growth_interval"]);
  Trainer run(Parameters{{"weight"}, {line.weight}}, line, ConstantRate{fixture["rate"].get<double>()}, options);
  std::int64_t overflows = 0;
  for (const auto& update : fixture["updates"]) {
    const auto before = run.snapshot();
    std::map<std::string, at::Tensor> copies;
    for (const auto& [name, tensor] : before.tensors) copies.emplace(name, tensor.clone());
    const auto progress = run.advance();
    INFO("update " << progress.step);
    CHECK(progress.scale == update["scale"].get<double>());
    CHECK(progress.skipped == update["skipped"].get<bool>());
    overflows += progress.skipped ? 1 : 0;
    CHECK(progress.overflows == overflows);
    const auto after = run.snapshot();
    CHECK(after.state["loss_scaler"]["scale"] == update["next_scale"]);
    CHECK(after.state["loss_scaler"]["good_updates"] == update["good_updates"]);
    const auto expected = golden_tensor(update["weight"], {2});
    CHECK(((line.weight.detach() - expected).abs() <= 3e-6 * expected.abs()).all().item<bool>());
    for (const auto& [name, tensor] : after.tensors) {
      if (progress.skipped) CHECK(tensor.equal(copies.at(name)));  // weights, averages, moments, counts
    }
    CHECK(after.state["ema_updates"].get<std::int64_t>() == progress.step - overflows);
  }
  CHECK(overflows == 4);
}

TEST_CASE("fp16 gradients that overflow lower the scale until they fit, and then training continues", "[train]") {
  const SmallNetwork small;
  const auto matrix = small.matrix.detach().clone();
  TrainingOptions options = scaled_options(2000);
  options.loss_scaler->initial_scale = 16777216.0;  // 2^24
  Trainer run(small.parameters(), small, ConstantRate{1e-2}, options);
  std::vector<double> losses;
  std::int64_t first_good = 0;
  run.run(40, [&](const TrainingProgress& progress) {
    if (first_good == 0 && !progress.skipped) first_good = progress.step;
    if (first_good == 0) CHECK(small.matrix.equal(matrix));
    losses.push_back(progress.loss);
  });
  CHECK(first_good > 1);  // the first overflowed
  CHECK(first_good < 20);
  CHECK(small.matrix.grad().scalar_type() == at::kFloat);
  CHECK(losses.back() < 0.9 * losses.front());
  CHECK(run.snapshot().state["loss_scaler"]["overflows"] == first_good - 1);
}

TEST_CASE("A resumed scaled run ends with the same bits, scale and count as one that was not interrupted", "[train]") {
  const ScratchDir scratch;
  const auto train = [&](const std::string& folder, std::initializer_list<std::int64_t> ends) {
    Checkpoint last;
    for (const auto end : ends) {
      const SmallNetwork small;
      auto options = scaled_options(4);
      options.folder = scratch / folder;
      options.loss_scaler->initial_scale = 16777216.0;
      Trainer run(small.parameters(), small, ConstantRate{1e-2}, options);
      run.resume();
      run.run(end);
      last = run.snapshot();
    }
    return last;
  };
  const auto whole = train("whole", {25});
  const auto parts = train("parts", {3, 14, 25});
  CHECK(whole.state["loss_scaler"] == parts.state["loss_scaler"]);
  CHECK(whole.state["loss_scaler"]["overflows"].get<int>() > 2);
  for (const auto& [name, tensor] : whole.tensors) {
    INFO(name);
    CHECK(tensor.equal(parts.tensors.at(name)));
  }
  // A run without a scaler can read the checkpoint, and one with a scaler can read that of a run without.
  const SmallNetwork small;
  TrainingOptions plain;
  plain.folder = scratch / "parts";
  Trainer run(small.parameters(), small, ConstantRate{1e-2}, plain);
  REQUIRE(run.resume());
  CHECK_FALSE(run.snapshot().state.contains("loss_scaler"));
  Trainer scaled(small.parameters(), small, ConstantRate{1e-2}, scaled_options());
  scaled.restore(run.snapshot());
  CHECK(scaled.snapshot().state["loss_scaler"]["scale"] == 65536.0);
}

TEST_CASE("Processes skip the same updates", "[train]") {
  ip2p::testing::as_processes(2, ip2p::testing::Defect::none, [](const ip2p::testing::Threads& threads) {
    // In the first update, only the gradient of the second process overflows.
    const auto weight = start();
    const auto loss = [&](std::int64_t step, std::int64_t part, std::int64_t) {
      return weight.sum() * (step == 0 && part == 1 ? 1e36 : 1.0);
    };
    Trainer run(Parameters{{"weight"}, {weight}}, loss, ConstantRate{0.1}, scaled_options(), threads);
    const auto progress = run.advance();
    require(progress.skipped && progress.overflows == 1, "expected both to leave out the update");
    require(weight.equal(start()), "expected the weights to be left alone");
    const auto next = run.advance();
    require(!next.skipped && next.scale == 32768.0, "expected half the scale, found {}", next.scale);
  });
}

TEST_CASE("A loss that is not finite also lowers the scale, and gradients that never are finite end the run",
          "[train]") {
  const auto weight = start();
  auto options = scaled_options();
  options.largest_bad_streak = 3;
  const auto nothing = std::numeric_limits<double>::quiet_NaN();
  const auto bad_loss = [&](std::int64_t) { return weight.sum() * nothing; };
  Trainer run(Parameters{{"weight"}, {weight}}, bad_loss, ConstantRate{0.1}, options);
  CHECK(run.advance().skipped);
  const auto progress = run.advance();
  CHECK(progress.scale == 32768.0);
  CHECK(progress.overflows == 0);
  CHECK_THROWS_WITH(run.advance(), Catch::Contains("the loss was not finite 3 times in a row"));

  // The loss is 0 and its gradient infinite.
  const auto bad_gradient = [&](std::int64_t) { return (weight - weight.detach()).abs().sqrt().sum(); };
  Trainer other(Parameters{{"weight"}, {weight}}, bad_gradient, ConstantRate{0.1}, options);
  std::int64_t updates = 0;
  const auto until_it_gives_up = [&] {
    for (; updates < 100; ++updates) other.advance();
  };
  CHECK_THROWS_WITH(until_it_gives_up(), Catch::Contains("gradients or loss were not finite 3 times in a row") &&
                                             Catch::Contains("loss scale of 0.125"));
  CHECK(updates == 19);  // before that, 17 scales from 2^16 to 1 and two below 1
  CHECK(weight.equal(start()));
}

TEST_CASE("A loss scaler refuses what it cannot handle", "[train]") {
  const auto weight = start();
  const auto without_graph = [&](std::int64_t) { return weight.detach().sum(); };
  Trainer run(Parameters{{"weight"}, {weight}}, without_graph, ConstantRate{0.1}, scaled_options());
  CHECK_THROWS_WITH(run.advance(), Catch::Contains("a loss with its graph where it is scaled"));
  const auto narrow = weight.detach().to(at::kHalf).set_requires_grad(true);
  narrow.mutable_grad() = narrow.detach().clone();
  CHECK_THROWS_WITH(LossScaler().unscale({narrow}),
                    Catch::Contains("expected gradients in fp32") && Catch::Contains("found Half"));
  CHECK(LossScaler().unscale({weight}));  // no gradient: nothing overflows

  const auto refuse = [](const LossScalerOptions& options) { LossScaler{options}; };
  CHECK_THROWS_WITH(refuse({.initial_scale = 0.0}), Catch::Contains("initial scale: expected a positive number"));
  CHECK_THROWS_WITH(refuse({.growth_factor = 1.0}), Catch::Contains("growth factor: expected more than 1, found 1"));
  CHECK_THROWS_WITH(refuse({.backoff_factor = 1.0}), Catch::Contains("backoff factor: expected a number between"));
  CHECK_THROWS_WITH(refuse({.growth_interval = 0}), Catch::Contains("growth interval: expected at least 1, found 0"));
}
