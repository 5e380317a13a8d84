#include "ip2p/sampling/lms.hpp"

#include "ip2p/sampling/euler.hpp"
#include "ip2p/testing/check_sampler.hpp"
#include "sampling/counting.hpp"
#include "sampling/golden_runs.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

Lms lms_of(const nlohmann::json& parameters) { return {.order = parameters.value("order", 4)}; }

}  // namespace

TEST_CASE("Lms keeps the laws of a sampler", "[sampling]") {
  testing::check_sampler(Lms{});
  testing::check_sampler(Lms{.order = 2});
}

TEST_CASE("Lms equals k-diffusion and diffusers step by step", "[sampling]") {
  REQUIRE(testing::solver_difference("k_diffusion", "lms", 6, lms_of) < 1e-10);
  REQUIRE(testing::solver_difference("diffusers", "lms", 2, lms_of) < 1e-6);
}

TEST_CASE("Lms of order 1 is Euler's method", "[sampling]") {
  const auto sigmas = testing::test_sigmas(6);
  const auto asked = testing::questions_of(Lms{.order = 1}, sigmas);
  REQUIRE(testing::close(asked.result, testing::questions_of(Euler{}, sigmas).result, 1e-5));
  REQUIRE(asked.sigmas.size() == 6);
  REQUIRE(asked.draws.empty());
}

TEST_CASE("Interpolation weights are exact for polynomials", "[sampling]") {
  // Simpson's rule over [0, 1] from its nodes and the integrals of 1, u, u^2.
  const std::vector<double> simpson =
      detail::interpolation_weights(std::vector{0.0, 0.5, 1.0}, std::vector{1.0, 1.0 / 2, 1.0 / 3});
  REQUIRE(simpson.size() == 3);
  REQUIRE(simpson[0] == Approx(1.0 / 6));
  REQUIRE(simpson[1] == Approx(4.0 / 6));
  REQUIRE(simpson[2] == Approx(1.0 / 6));
  // Adams and Bashforth's weights of four equal steps.
  const std::vector<double> adams =
      detail::interpolation_weights(std::vector{0.0, -1.0, -2.0, -3.0}, std::vector{1.0, 1.0 / 2, 1.0 / 3, 1.0 / 4});
  const std::vector<double> expected{55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24};
  for (std::size_t k = 0; k < 4; ++k) REQUIRE(adams[k] == Approx(expected[k]));
}

TEST_CASE("Lms refuses an order out of range", "[sampling]") {
  REQUIRE_THROWS_WITH(testing::run_twice(Lms{.order = 0}), Contains("Lms: expected order 1 to 4, found 0"));
  REQUIRE_THROWS_WITH(testing::run_twice(Lms{.order = 5}), Contains("Lms: expected order 1 to 4, found 5"));
}
