#include <cmath>
#include <memory>
#include <string>

#include "ip2p/testing/check_dropout.hpp"
#include "ip2p/testing/check_learning_rate.hpp"
#include "ip2p/testing/check_loss_weight.hpp"
#include "ip2p/testing/check_pair_source.hpp"
#include "ip2p/testing/model_archetypes.hpp"
#include "support/catch.hpp"

// The kit must notice each broken law: every type below keeps all laws of its role but one.

namespace {

using namespace ip2p;
using testing::check_dropout;
using testing::check_learning_rate;
using testing::check_loss_weight;
using testing::check_pair_source;

struct FlawedRate {
  int flaw;
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  double operator()(std::int64_t step) const {
    if (flaw == 1) return 1e-4 / static_cast<double>(step - 1500);
    if (flaw == 2) return 1e-4 * (1.0 - static_cast<double>(step) / 10'000.0);  // falls below 0
    if (flaw == 3) return 1e-4 / ++*calls;
    return 1e-4;
  }
};

struct FlawedDropout {
  int flaw;
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  Dropped drop(double u) const {
    require(flaw != 1 || u > 0.0, "expected u > 0");
    if (flaw == 2) return {.text = ++*calls % 4 == 0};
    return {.text = u < (flaw == 3 ? 0.01 : 0.1), .image = u >= 0.05 && u < 0.15};
  }
};

struct FlawedWeight {
  int flaw;
  std::shared_ptr<int> calls = std::make_shared<int>(0);
  double operator()(double snr, const Preconditioning&) const {
    if (flaw == 1) return snr < 1e-9 ? INFINITY : 1.0;
    if (flaw == 2) return 1.0 - 1e-6 * snr;
    if (flaw == 3) return 0.0;
    if (flaw == 4) return ++*calls;
    return 1.0;
  }
};

struct FlawedPairs {
  int flaw;
  int calls = 0;
  testing::PairSourceArchetype sound{4, 2, 3};
  std::int64_t size() { return flaw == 1 ? 0 : flaw == 2 ? 3 + ++calls : 3; }
  EditPair get(std::int64_t i, SampleRandom& random) {
    EditPair pair = sound.get(i, random);
    if (flaw == 3 && i == 2) pair.target_mean = pair.target_mean.narrow(2, 0, 2);
    if (flaw == 4) pair.target_logvar = pair.target_logvar.select(0, 0);
    if (flaw == 5) pair.condition = pair.condition.to(at::kDouble);
    if (flaw == 6 && i == 1) pair.condition = at::Tensor();
    if (flaw == 7) pair.target_logvar = pair.target_logvar.mul(INFINITY);
    if (flaw == 8) pair.instruction += std::to_string(++calls);
    if (flaw == 9) pair.condition = pair.condition.add(++calls);
    return pair;
  }
};

}  // namespace

TEST_CASE("The checks for training accept the archetypes", "[testing]") {
  check_learning_rate(testing::RateArchetype(1e-3));
  check_dropout(testing::DropoutArchetype(0), {.text = 0.5});
  check_loss_weight(testing::LossWeightArchetype(0));
  testing::PairSourceArchetype pairs(4, 2, 3);
  check_pair_source(pairs);
}

TEST_CASE("check_learning_rate names the broken law", "[testing]") {
  const auto broken = [](int flaw, const std::string& law) {
    REQUIRE_THROWS_WITH(check_learning_rate(FlawedRate{flaw}), Contains("LearningRatePolicy breaks the law \"" + law));
  };
  check_learning_rate(FlawedRate{0});
  broken(1, "rates are not negative");
  REQUIRE_THROWS_WITH(check_learning_rate([](std::int64_t step) { return std::log(static_cast<double>(step)); }),
                      Contains("rates are finite\": -inf for update 0"));
  broken(2, "rates are not negative\": -0.0001 for update 20000");
  broken(3, "a rate is a function of the update's number");
}

TEST_CASE("check_dropout names the broken law", "[testing]") {
  const testing::DropoutShares shares{.text = 0.05, .both = 0.05, .image = 0.05};
  const auto broken = [&](int flaw, const std::string& law) {
    REQUIRE_THROWS_WITH(check_dropout(FlawedDropout{flaw}, shares),
                        Contains("ConditioningDropoutPolicy breaks the law \"" + law));
  };
  check_dropout(FlawedDropout{0}, shares);
  broken(1, "drop(u) is defined for every u in [0, 1)\": drop(0) throws");
  broken(2, "drop(u) is a function of u");
  broken(3, "each conditioning is lost as often as promised");
}

TEST_CASE("check_loss_weight names the broken law", "[testing]") {
  const auto broken = [](int flaw, const std::string& law) {
    REQUIRE_THROWS_WITH(check_loss_weight(FlawedWeight{flaw}), Contains("LossWeightPolicy breaks the law \"" + law));
  };
  check_loss_weight(FlawedWeight{0});
  broken(1, "weights are finite\": inf for snr 1e-10");
  broken(2, "weights are not negative");
  broken(3, "some samples count");
  broken(4, "a weight is a function of snr and prediction");
}

TEST_CASE("check_pair_source names the broken law", "[testing]") {
  const auto broken = [](int flaw, const std::string& law) {
    FlawedPairs pairs{flaw};
    REQUIRE_THROWS_WITH(check_pair_source(pairs), Contains("PairSource breaks the law \"" + law));
  };
  FlawedPairs sound{0};
  check_pair_source(sound);
  broken(1, "there is at least one pair");
  broken(2, "the number of pairs stays");
  broken(3, "all pairs have one shape [C,h,w], fp32 on one device");
  broken(4, "all pairs have one shape [C,h,w], fp32 on one device");
  broken(5, "all pairs have one shape [C,h,w], fp32 on one device");
  broken(6, "all pairs have a condition or none has");
  broken(7, "values are finite");
  broken(8, "get is a function of i and the numbers it draws");
  broken(9, "get is a function of i and the numbers it draws");
}
