#include <cstdio>

#include "ip2p/sampling/any_sampler.hpp"
#include "ip2p/testing/denoisers.hpp"
#include "support/golden.hpp"

using namespace ip2p;

namespace {

/// A sampler without noise, and the orders with which its error falls on the two grids.
struct Case {
  std::string label;
  AnySampler sampler;
  double even;
  double graded;
};

// Where the two differ, it is because the first steps, which have too few earlier estimates for the full order,
// dominate on the even grid.
const std::vector<Case>& cases() {
  static const std::vector<Case> all{
      {"euler", Euler{}, 1.0, 1.0},
      {"ddim", Ddim{}, 1.0, 1.0},
      {"heun", Heun{}, 2.0, 2.0},
      {"dpm2", Dpm2{}, 2.0, 2.0},
      {"dpm++-2s, eta 0", DpmPlusPlus2SAncestral{.eta = 0.0}, 2.0, 2.0},
      {"dpm++-2m", DpmPlusPlus2M{}, 2.0, 2.0},
      {"dpm++-2m-sde heun, eta 0", DpmPlusPlus2MSde{.eta = 0.0, .solver = SdeSolver::heun}, 2.0, 2.0},
      {"dpm++-3m-sde, eta 0", DpmPlusPlus3MSde{.eta = 0.0}, 2.0, 2.0},
      {"dpm++-3m-sde, eta 0, curvature 2", DpmPlusPlus3MSde{.eta = 0.0, .curvature = 2.0}, 2.0, 3.0},
      {"lms, order 4", Lms{}, 2.0, 4.0},
      {"unipc, order 1", UniPc{.order = 1}, 2.0, 2.0},
      {"unipc, order 2", UniPc{}, 3.0, 3.0},
      {"unipc, order 3", UniPc{.order = 3}, 3.0, 4.0},
  };
  return all;
}

/// Largest error at noise level .2 of a run that reaches it from 2 in n steps, which end at (i/n)^grading of the way in
/// log sigma. It is not measured at 0, because every sampler's last step to 0 has an error of its own, which depends on
/// the level before it and not on n.
double error(const AnySampler& sampler, std::int64_t n, double grading) {
  // The exact solution of the probability-flow ODE of data N(m, s^2) has x - m proportional to sqrt(s^2 + sigma^2).
  const testing::GaussianDenoiser data{.mean = 0.4, .deviation = 0.7};
  std::vector<double> sigmas;
  for (std::int64_t i = 0; i <= n; ++i) {
    sigmas.push_back(2.0 * std::pow(0.1, std::pow(static_cast<double>(i) / static_cast<double>(n), grading)));
  }
  const double end = sigmas.back();
  for (const double after : {0.1, 0.05, 0.0}) sigmas.push_back(after);
  const at::Tensor start = CounterNoise(1).normal({1, 4, 2, 2}, 0).to(at::kDouble).mul(2.0);
  const double shrink = std::sqrt((0.49 + end * end) / (0.49 + 4.0));
  const at::Tensor exact = start.sub(data.mean).mul(shrink).add(data.mean);
  double largest = NAN;
  RunHooks hooks;
  hooks.on_step = [&](const Step& step, const at::Tensor& latents) {
    if (step.index == n - 1) largest = testing::largest_difference(latents, exact);
  };
  CounterNoise noise(1);
  (void)sampler.sample(data, start, sigmas, noise, hooks);
  return largest;
}

}  // namespace

TEST_CASE("The error of samplers without noise falls with their orders", "[sampling]") {
  for (const Case& entry : cases()) {
    INFO(entry.label);
    const auto slope = [&](double grading) {
      return std::log2(error(entry.sampler, 256, grading) / error(entry.sampler, 512, grading));
    };
    CHECK(slope(1.0) == Approx(entry.even).margin(0.15));
    CHECK(slope(2.0) == Approx(entry.graded).margin(0.15));
  }
}

// Not run by default: its output makes the table and picture of docs/explanation/sampler-orders.md.
TEST_CASE("Errors by number of steps, as lines of a table", "[.][orders]") {
  for (const Case& entry : cases()) {
    for (const double grading : {1.0, 2.0}) {
      for (std::int64_t n = 8; n <= 512; n *= 2) {
        std::printf("error;%s;%g;%ld;%.6e\n", entry.label.c_str(), grading, static_cast<long>(n),
                    error(entry.sampler, n, grading));
      }
    }
  }
}
