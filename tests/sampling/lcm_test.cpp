#include "ip2p/sampling/lcm.hpp"

#include "ip2p/schedule/lcm_sigmas.hpp"
#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

/// The exact consistency function of normally distributed data: the end of the probability-flow ODE's path through x.
struct ConsistencyFunction {
  double mean = 0.4;
  double deviation = 0.7;
  at::Tensor operator()(const at::Tensor& x, const Step& step) const {
    return x.sub(mean).mul(deviation / std::sqrt(deviation * deviation + step.sigma * step.sigma)).add(mean);
  }
};

}  // namespace

TEST_CASE("Lcm keeps the laws of a sampler", "[sampling]") { testing::check_sampler(Lcm{}); }

TEST_CASE("Lcm equals diffusers' LCMScheduler step by step", "[sampling]") {
  REQUIRE(testing::preserving_difference(
              "lcm", 3, [](const SchedulerConfig& config) { return LcmSigmas::from_config(config); },
              [](const nlohmann::json& /*run*/, const LcmSigmas& /*levels*/) { return Lcm{}; }) < 1e-5);
}

TEST_CASE("Lcm with an exact consistency function reproduces mean and variance in any number of steps", "[sampling]") {
  for (const std::int64_t n : {1, 2, 4}) {
    const auto [mean, deviation] = testing::moments(Lcm{}, testing::test_sigmas(n), ConsistencyFunction{});
    // Four standard errors of 65,536 values.
    REQUIRE(mean == Approx(0.4).margin(0.011));
    REQUIRE(deviation == Approx(0.7).margin(0.008));
  }
  REQUIRE(testing::questions_of(Lcm{}, {4.0, 2.0, 1.0, 0.0}).draws == std::vector<std::int64_t>{1, 2});
}
