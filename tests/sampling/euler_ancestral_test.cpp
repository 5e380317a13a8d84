#include "ip2p/sampling/euler_ancestral.hpp"

#include "ip2p/sampling/euler.hpp"
#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;

TEST_CASE("EulerAncestral keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(EulerAncestral{});
  testing::check_sampler(EulerAncestral{.eta = 0.3, .s_noise = 1.1}, {.keeps_noise_level = false});
  testing::check_sampler(EulerAncestral{.eta = 0.0});
}

TEST_CASE("EulerAncestral with torch's noise equals k-diffusion step by step", "[sampling]") {
  const auto count = testing::for_each_k_diffusion_run(
      "euler-ancestral", [](const auto& run, PredictionType prediction, const auto& sigmas, const auto& shape) {
        const EulerAncestral sampler{.eta = run["eta"].template get<double>(),
                                     .s_noise = run["s_noise"].template get<double>()};
        REQUIRE(testing::run_difference(sampler, LogLinearSigmas{}, prediction, sigmas,
                                        run["seed"].template get<std::uint64_t>(), run["states"],
                                        shape) < testing::k_diffusion_rounding);
      });
  REQUIRE(count == 10);
}

TEST_CASE("EulerAncestral equals diffusers' EulerAncestralDiscreteScheduler step by step", "[sampling]") {
  REQUIRE(testing::diffusers_difference("euler-ancestral", EulerAncestral{}) < 1e-6);
}

TEST_CASE("EulerAncestral reaches sigma 0 without adding noise", "[sampling]") {
  testing::CountingNoise noise;
  const auto sigmas = testing::test_sigmas(4);
  const at::Tensor x = CounterNoise(2).normal({1, 4, 2, 2}, 0).mul(sigmas.front());
  (void)EulerAncestral{}.sample(testing::GaussianDenoiser{}, x, sigmas, noise);
  REQUIRE(noise.draws == std::vector<std::int64_t>{1, 2, 3});
}

TEST_CASE("EulerAncestral with eta 0 is Euler and draws nothing", "[sampling]") {
  testing::CountingNoise noise;
  const auto sigmas = testing::test_sigmas(5);
  const at::Tensor x = CounterNoise(2).normal({1, 4, 2, 2}, 0).mul(sigmas.front());
  const at::Tensor ancestral = EulerAncestral{.eta = 0.0}.sample(testing::GaussianDenoiser{}, x, sigmas, noise);
  REQUIRE(noise.draws.empty());
  REQUIRE(testing::same_bits(ancestral, Euler{}.sample(testing::GaussianDenoiser{}, x, sigmas, noise)));
}

TEST_CASE("An ancestral step keeps the total variance of its noise level", "[sampling]") {
  for (const double eta : {0.0, 0.4, 1.0, 3.0}) {
    const auto [down, up] = ancestral_step(5.0, 3.0, eta);
    REQUIRE(down * down + up * up == Approx(9.0));
    REQUIRE(up <= 3.0);
  }
  REQUIRE(ancestral_step(5.0, 3.0, 1.0).up == Approx(std::sqrt(9.0 * 16.0 / 25.0)));
}

TEST_CASE("EulerAncestral reproduces mean and variance of normally distributed data", "[sampling]") {
  const auto [mean, deviation] = testing::moments(EulerAncestral{}, testing::test_sigmas(60));
  // 65,536 values: the standard error of the mean is .003; Euler's own bias in 60 steps is larger for the deviation.
  REQUIRE(mean == Approx(0.4).margin(0.015));
  REQUIRE(deviation == Approx(0.7).epsilon(0.06));
}

TEST_CASE("EulerAncestral refuses parameters out of range", "[sampling]") {
  using Catch::Matchers::Contains;
  REQUIRE_THROWS_WITH(testing::run_twice(EulerAncestral{.eta = -0.1}), Contains("expected eta >= 0, found -0.1"));
  REQUIRE_THROWS_WITH(testing::run_twice(EulerAncestral{.s_noise = NAN}), Contains("expected s_noise >= 0, found nan"));
}
