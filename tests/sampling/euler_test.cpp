#include "ip2p/sampling/euler.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;

TEST_CASE("Euler keeps the laws of a sampler", "[sampling]") { testing::check_sampler(Euler{}); }

TEST_CASE("Euler equals k-diffusion step by step", "[sampling]") {
  const auto count = testing::for_each_k_diffusion_run(
      "euler", [](const auto& run, PredictionType prediction, const auto& sigmas, const auto& shape) {
        REQUIRE(testing::run_difference(Euler{}, LogLinearSigmas{}, prediction, sigmas,
                                        run["seed"].template get<std::uint64_t>(), run["states"], shape) <
                testing::k_diffusion_rounding);
      });
  REQUIRE(count == 6);
}

TEST_CASE("Euler equals diffusers' EulerDiscreteScheduler step by step", "[sampling]") {
  REQUIRE(testing::diffusers_difference("euler", Euler{}) < 1e-6);
}

TEST_CASE("Euler's error on normally distributed data falls linearly with the step", "[sampling]") {
  // The probability-flow ODE of N(m, s^2) data is solved exactly by x - m proportional to sqrt(s^2 + sigma^2).
  const testing::GaussianDenoiser denoiser{.mean = 0.4, .deviation = 0.7};
  const at::Tensor start = CounterNoise(1).normal({1, 4, 4, 4}, 0).to(at::kDouble).mul(14.6);
  const auto error = [&](std::int64_t n) {
    auto sigmas = testing::test_sigmas(n);
    const double shrink = 0.7 / std::sqrt(0.49 + sigmas.front() * sigmas.front());
    const at::Tensor exact = start.sub(0.4).mul(shrink).add(0.4);
    CounterNoise noise(1);
    return testing::largest_difference(Euler{}.sample(denoiser, start, sigmas, noise), exact);
  };
  const double coarse = error(100);
  const double fine = error(200);
  REQUIRE(coarse / fine > 1.7);
  REQUIRE(coarse / fine < 2.3);
}
