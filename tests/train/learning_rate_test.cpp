#include "ip2p/train/learning_rate.hpp"

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "ip2p/train/any_learning_rate.hpp"
#include "ip2p/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

using namespace ip2p;
using ip2p::testing::golden;
using ip2p::testing::relative_difference;

// Golden values: tests/parity/make_optimiser_fixtures.py.
TEST_CASE("Learning rates equal those of diffusers' schedules", "[train]") {
  const auto fixture = golden("train/fixtures/learning_rates.json");
  const double peak = fixture["peak"];
  const std::int64_t warmup = fixture["warmup"], steps = fixture["steps"];
  const LearningRateSettings settings{peak, warmup, steps};
  std::map<std::string, AnyLearningRate> rates{
      {"linear without warmup", LinearDecay{peak, 0, steps}},
      {"cosine of 1.5 cycles", CosineDecay{peak, warmup, steps, 1.5}},
      {"three restarts", CosineRestarts{peak, warmup, steps, 3}},
      {"cubic", PolynomialDecay{peak, warmup, steps, 1e-5, 3.0}},
  };
  for (const auto name :
       {"constant", "constant-with-warmup", "linear", "cosine", "cosine-with-restarts", "polynomial"}) {
    rates.emplace(name, AnyLearningRate::named(name, settings));
    CHECK(rates.at(name).name() == name);
  }
  for (const auto& [name, rate] : rates) {
    INFO(name);
    const auto expected = fixture.at(name).get<std::vector<double>>();
    REQUIRE(expected.size() == 36);
    // An absolute tolerance: the cosine's last values are differences of nearly equal numbers.
    for (std::size_t step = 0; step < expected.size(); ++step) {
      CHECK(rate(static_cast<std::int64_t>(step)) == Approx(expected[step]).epsilon(1e-12).margin(1e-18));
    }
  }
}

TEST_CASE("WarmupCosine rises linearly, peaks, and ends at its share of the peak", "[train]") {
  const WarmupCosine rate{1.0, 10, 110, 0.1};
  CHECK(rate(0) == Approx(0.1));
  CHECK(rate(9) == Approx(1.0));
  CHECK(rate(10) == Approx(1.0));
  CHECK(rate(60) == Approx(0.1 + 0.9 * 0.5));
  CHECK(rate(110) == Approx(0.1));
  CHECK(rate(100000) == Approx(0.1));
  CHECK(ConstantRate{}(12345) == 1e-4);
}

TEST_CASE("No learning rate falls below 0 or stops being a number, whatever the settings", "[train]") {
  for (const auto name : AnyLearningRate::names()) {
    for (const LearningRateSettings& settings :
         {LearningRateSettings{1e-3, 0, 20}, LearningRateSettings{1e-3, 5, 5}, LearningRateSettings{1e-3, 0, 1}}) {
      const auto rate = AnyLearningRate::named(name, settings);
      for (std::int64_t step = 0; step < 60; ++step) {
        INFO(name << " of " << settings.steps << " at " << step);
        CHECK(std::isfinite(rate(step)));
        CHECK(rate(step) >= 0.0);
        CHECK(rate(step) <= 1e-3 * (1.0 + 1e-12));
      }
    }
  }
}

TEST_CASE("A learning rate of an unknown name is refused, and the error lists the known names", "[train]") {
  CHECK_THROWS_WITH(AnyLearningRate::named("cosin"),
                    Catch::Contains("learning rate: expected one of constant, constant-with-warmup, linear") &&
                        Catch::Contains("found \"cosin\""));
}

TEST_CASE("A run refuses a rate that is negative or not a number before it changes a weight", "[train]") {
  struct FromThirdUpdate {
    double value;
    double operator()(std::int64_t step) const { return step < 2 ? 0.1 : value; }
  };
  for (const double value : {std::nan(""), -1e-9, std::numeric_limits<double>::infinity()}) {
    auto weight = at::ones({2}).set_requires_grad(true);
    const auto loss = [&](std::int64_t) { return weight.square().sum(); };
    Trainer trainer(Parameters{{"weight"}, {weight}}, loss, FromThirdUpdate{value});
    trainer.advance();
    trainer.advance();
    const auto before = weight.detach().clone();
    CHECK_THROWS_WITH(trainer.advance(), Contains("learning rate: expected a finite rate >= 0 for update 2, found "));
    CHECK(at::equal(weight, before));
  }
  CHECK(rate_checked(ConstantRate{0.0}, 7) == 0.0);
}
