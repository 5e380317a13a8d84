#include "ip2p/sampling/unipc.hpp"

#include <ATen/ops/zeros_like.h>

#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

UniPc unipc_of(const nlohmann::json& parameters) {
  return {.order = parameters["order"], .solver = parameters["solver"] == "bh1" ? UniPcSolver::bh1 : UniPcSolver::bh2};
}

}  // namespace

TEST_CASE("UniPc keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(UniPc{});
  testing::check_sampler(UniPc{.order = 1});
  testing::check_sampler(UniPc{.order = 3, .solver = UniPcSolver::bh1});
}

TEST_CASE("UniPc equals diffusers step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("diffusers", "unipc", 10, unipc_of) < 1e-5);
}

TEST_CASE("UniPc evaluates once per step and draws nothing", "[sampling]") {
  const auto asked = testing::questions_of(UniPc{.order = 3}, {8.0, 4.0, 2.0, 1.0, 0.0});
  REQUIRE(asked.sigmas == std::vector<double>{8.0, 4.0, 2.0, 1.0});
  REQUIRE(asked.draws.empty());
}

TEST_CASE("UniPc's correction keeps what revise changed", "[sampling]") {
  // The second step starts from latents far from the predicted ones; the correction alone would forget them.
  const std::vector<double> sigmas{4.0, 2.0, 1.0, 0.0};
  const at::Tensor x = CounterNoise(1).normal({1, 4, 2, 2}, 0).mul(4.0);
  const at::Tensor point = at::zeros_like(x);
  at::Tensor seen;
  RunHooks hooks;
  hooks.revise = [](const Step& step, const at::Tensor& latents) {
    return step.index == 0 ? latents.add(100.0) : latents;
  };
  hooks.on_step = [&](const Step& step, const at::Tensor& latents) {
    if (step.index == 1) seen = latents;
  };
  CounterNoise noise(1);
  (void)UniPc{}.sample(testing::PointMassDenoiser(point), x, sigmas, noise, hooks);
  // With a point mass at 0 a step only shrinks the latents, and the correction is 0.
  REQUIRE(testing::close(seen, x.mul(0.5).add(100.0).mul(0.5), 1e-5));
}

TEST_CASE("UniPc refuses an order out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(UniPc{.order = 0}), Contains("UniPc: expected order 1 to 3, found 0"));
  REQUIRE_THROWS_WITH(testing::run_twice(UniPc{.order = 4}), Contains("UniPc: expected order 1 to 3, found 4"));
}
