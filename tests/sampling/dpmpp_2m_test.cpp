#include "ip2p/sampling/dpmpp_2m.hpp"

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

DpmPlusPlus2M plain(const nlohmann::json& /*parameters*/) { return {}; }

}  // namespace

TEST_CASE("DpmPlusPlus2M keeps the laws of a sampler", "[sampling]") { testing::check_sampler(DpmPlusPlus2M{}); }

TEST_CASE("DpmPlusPlus2M equals k-diffusion and diffusers step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "dpm++-2m", 2, plain) < 1e-10);
  REQUIRE(testing::solver_difference("diffusers", "dpm++-2m", 2, plain) < 1e-5);
}

TEST_CASE("DpmPlusPlus2M evaluates once per step and ends at its last estimate", "[sampling]") {
  const auto asked = testing::questions_of(DpmPlusPlus2M{}, {4.0, 2.0, 1.0, 0.0});
  REQUIRE(asked.sigmas == std::vector<double>{4.0, 2.0, 1.0});
  REQUIRE(asked.draws.empty());
  at::Tensor last;
  CounterNoise noise(1);
  const auto denoiser = [&](const at::Tensor& x, const Step& step) {
    last = testing::closed_form_denoiser(x, step);
    return last;
  };
  const at::Tensor x = noise.normal({1, 4, 2, 2}, 0).mul(4.0);
  const std::vector<double> sigmas{4.0, 2.0, 1.0, 0.0};
  REQUIRE(testing::same_bits(DpmPlusPlus2M{}.sample(denoiser, x, sigmas, noise), last));
}
