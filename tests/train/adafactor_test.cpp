#include "ip2p/train/adafactor.hpp"

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "ip2p/testing/check_optimiser.hpp"
#include "ip2p/train/adamw.hpp"
#include "ip2p/train/exponential_decay.hpp"
#include "ip2p/train/madgrad.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

using namespace ip2p;
using ip2p::testing::check_optimiser;
using ip2p::testing::golden;
using ip2p::testing::golden_tensor;

namespace {

/// Plain descent with momentum, correct or with one defect.
enum class Fault { none, hides_state, forgets_a_gradient, shares_a_mean, decays_without_gradient, bad_name };

template <Fault fault>
class Momentum {
 public:
  struct Options {
    double beta = 0.9;
  };

  Momentum(std::vector<at::Tensor> parameters, const Options& options)
      : parameters_(std::move(parameters)), options_(options) {
    for (const auto& parameter : parameters_) velocities_.push_back(at::zeros_like(parameter));
  }

  void step(double rate) {
    const at::NoGradGuard no_grad;
    double mean = 0.0;
    for (const auto& parameter : parameters_) mean += parameter.mean().item<double>();
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (fault == Fault::decays_without_gradient) parameters_[i].mul_(1.0 - rate);
      if (!parameters_[i].grad().defined()) continue;
      velocities_[i].mul_(options_.beta).add_(parameters_[i].grad());
      parameters_[i].sub_(velocities_[i], rate);
      if (fault == Fault::shares_a_mean) parameters_[i].sub_(rate * mean);
    }
  }

  void zero_gradients() {
    for (std::size_t i = fault == Fault::forgets_a_gradient ? 1 : 0; i < parameters_.size(); ++i) {
      parameters_[i].mutable_grad().reset();
    }
  }

  [[nodiscard]] std::vector<OptimiserState> state() const {
    if (fault == Fault::hides_state) return {};
    return {{fault == Fault::bad_name ? "weights" : "velocity", velocities_}};
  }

 private:
  std::vector<at::Tensor> parameters_, velocities_;
  Options options_;
};
static_assert(OptimiserPolicy<Momentum<Fault::none>>);

template <Fault fault>
void check() {
  check_optimiser<Momentum<fault>>();
}

}  // namespace

TEST_CASE("The laws of OptimiserPolicy hold for the shipped ones, and the kit notices if they do not", "[train]") {
  CHECK_NOTHROW(check_optimiser<AdamW>({}, {{.beta1 = 0.8}, {.beta2 = 0.9}, {.eps = 1e-2}, {.weight_decay = 0.1}}));
  CHECK_NOTHROW(check_optimiser<AdamW>({.weight_decay = 0.0}));
  CHECK_NOTHROW(
      check_optimiser<Adafactor>({}, {{.beta2_decay = -0.5}, {.eps1 = 1.0}, {.eps2 = 10.0}, {.weight_decay = 0.1}}));
  CHECK_NOTHROW(check_optimiser<Adafactor>({.weight_decay = 0.1}));
  CHECK_NOTHROW(check_optimiser<Madgrad>({}, {{.momentum = 0.5}, {.weight_decay = 0.1}, {.eps = 1e-2}}));
  CHECK_NOTHROW(check_optimiser<Madgrad>({.momentum = 0.0, .weight_decay = 0.0}));
  CHECK_NOTHROW(check<Fault::none>());
  CHECK_THROWS_WITH(check<Fault::hides_state>(), Catch::Contains("both go on with the same bits"));
  CHECK_THROWS_WITH(check<Fault::forgets_a_gradient>(), Catch::Contains("no parameter has a gradient"));
  CHECK_THROWS_WITH(check<Fault::shares_a_mean>(), Catch::Contains("own value, gradient and state"));
  CHECK_THROWS_WITH(check<Fault::decays_without_gradient>(), Catch::Contains("without a gradient stays as it is"));
  CHECK_THROWS_WITH(check<Fault::bad_name>(), Catch::Contains("\"weights\""));
}

// Golden values: tests/parity/make_optimiser_fixtures.py.
namespace {

/// Makes the updates of one case of a fixture and compares the weights after each and the states at the end.
/// \param names of the fixture's states by ours  \param weights_apart allowed in units of |expected| + 1e-3
template <class Optimiser>
void follow(const nlohmann::json& fixture, const std::string& name, const typename Optimiser::Options& options,
            const std::map<std::string, std::string>& reference, double weights_apart, double states_apart) {
  INFO(name);
  const auto& known = fixture["cases"][name];
  std::vector<std::string> names;
  std::vector<at::Tensor> parameters;
  const auto shape = [&](const std::string& of) { return fixture["shapes"][of].get<std::vector<std::int64_t>>(); };
  for (const auto& item : fixture["shapes"].items()) {
    names.push_back(item.key());
    parameters.push_back(golden_tensor(known["start"][item.key()], shape(item.key())).set_requires_grad(true));
  }
  Optimiser optimiser(parameters, options);
  for (const auto& update : known["updates"]) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto& gradients = update["gradients"];
      if (gradients.contains(names[i])) {
        parameters[i].mutable_grad() = golden_tensor(gradients[names[i]], shape(names[i]));
      } else {
        parameters[i].mutable_grad().reset();
      }
    }
    optimiser.step(update["rate"].get<double>());
    for (std::size_t i = 0; i < names.size(); ++i) {
      INFO(names[i]);
      const at::Tensor expected = golden_tensor(update["weights"][names[i]], shape(names[i]));
      const at::Tensor apart = (parameters[i].detach() - expected).abs() / (expected.abs() + 1e-3);
      CHECK(apart.max().item<double>() < weights_apart);
    }
  }
  for (const auto& kind : optimiser.state()) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      INFO(kind.name << " of " << names[i]);
      const auto& states = known["state"][names[i]];
      REQUIRE(kind.tensors[i].defined() == states.contains(reference.at(kind.name)));
      const at::Tensor& state = kind.tensors[i];
      if (!state.defined()) continue;
      const at::Tensor expected = golden_tensor(states[reference.at(kind.name)], state.sizes());
      CHECK(((state - expected).abs() <= states_apart * expected.abs()).all().item<bool>());
    }
  }
}

}  // namespace

TEST_CASE("Adafactor makes the updates of torch.optim.Adafactor", "[train]") {
  const auto fixture = golden("train/fixtures/adafactor.json");
  const std::map<std::string, std::string> reference{
      {"row_moment", "row_var"}, {"column_moment", "col_var"}, {"second_moment", "variance"}, {"updates", "step"}};
  follow<Adafactor>(fixture, "defaults", {}, reference, 1e-6, 2e-6);
  follow<Adafactor>(fixture, "all_options",
                    {.beta2_decay = -0.5, .eps1 = 1e-4, .eps2 = 1e-2, .threshold = 1.5, .weight_decay = 0.1}, reference,
                    1e-6, 2e-6);
}

TEST_CASE("Madgrad makes the updates of the authors' package", "[train]") {
  const auto fixture = golden("train/fixtures/madgrad.json");
  const std::map<std::string, std::string> reference{
      {"start", "x0"}, {"gradient_sum", "s"}, {"square_sum", "grad_sum_sq"}, {"updates", "k"}};
  follow<Madgrad>(fixture, "text2live", {}, reference, 1e-6, 2e-6);
  // The package computes the start again from the weights each time, which adds rounding errors.
  follow<Madgrad>(fixture, "no_momentum", {.momentum = 0.0, .weight_decay = 0.0}, reference, 2e-5, 2e-6);
  follow<Madgrad>(fixture, "large_constants", {.momentum = 0.5, .weight_decay = 0.3, .eps = 1e-2}, reference, 1e-6,
                  2e-6);

  const auto leaf = at::ones({2}).set_requires_grad(true);
  const auto refuse = [&](const MadgradOptions& options) { Madgrad({leaf}, options); };
  CHECK_THROWS_WITH(refuse({.momentum = 1.0}), Catch::Contains("momentum: expected a value in [0, 1), found 1"));
  CHECK_THROWS_WITH(refuse({.weight_decay = -1.0}), Catch::Contains("weight_decay: expected at least 0, found -1"));
  CHECK_THROWS_WITH(refuse({.eps = 0.0}), Catch::Contains("eps: expected more than 0, found 0"));
}

TEST_CASE("ExponentialDecay shrinks by a constant factor down to its least rate", "[train]") {
  const ExponentialDecay rate;
  double expected = 0.0025;
  for (std::int64_t step = 0; step < 700; ++step) {
    CHECK(rate(step) == Approx(expected).epsilon(1e-12));
    expected = std::max(1e-5, 0.99 * expected);
  }
  CHECK(rate(699) == 1e-5);
}

TEST_CASE("Adafactor keeps a row and a column of a matrix, and refuses options that are out of range", "[train]") {
  const auto matrix = at::ones({100, 200}).set_requires_grad(true);
  const auto filters = at::ones({8, 4, 3, 3}).set_requires_grad(true);
  const auto kinds = Adafactor({matrix, filters}).state();
  REQUIRE(kinds.size() == 4);
  CHECK(kinds[0].tensors[0].sizes() == at::IntArrayRef({100, 1}));
  CHECK(kinds[1].tensors[0].sizes() == at::IntArrayRef({1, 200}));
  CHECK(kinds[0].tensors[1].sizes() == at::IntArrayRef({8, 4, 3, 1}));
  CHECK_FALSE(kinds[2].tensors[0].defined());
  CHECK(ip2p::detail::state_bytes(kinds) == 4 * (100 + 200 + 2 * 96 + 2));

  const auto refuse = [&](const AdafactorOptions& options) { Adafactor({matrix}, options); };
  CHECK_THROWS_WITH(refuse({.beta2_decay = 0.1}), Catch::Contains("beta2_decay: expected at most 0, found 0.1"));
  CHECK_THROWS_WITH(refuse({.eps1 = -1.0}), Catch::Contains("eps1: expected at least 0, found -1"));
  CHECK_THROWS_WITH(refuse({.eps2 = -1.0}), Catch::Contains("eps2: expected at least 0, found -1"));
  CHECK_THROWS_WITH(refuse({.threshold = 0.5}), Catch::Contains("threshold: expected at least 1, found 0.5"));
  CHECK_THROWS_WITH(refuse({.weight_decay = -1.0}), Catch::Contains("weight_decay: expected at least 0, found -1"));
}
