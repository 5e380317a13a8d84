#include "ip2p/train/loss_weight.hpp"

#include <array>
#include <cmath>

#include "ip2p/schedule/discrete_schedule.hpp"
#include "support/catch.hpp"

using namespace ip2p;

// Expected values: diffusers' compute_snr and its training scripts' weights over Stable Diffusion's schedule, by
// tests/parity/make_train_fixtures.py.
namespace {

struct Golden {
  std::size_t timestep;
  double epsilon, velocity;
};

constexpr std::array<Golden, 5> golden_weights{{
    {0, 0.00425372412, 0.00425010873},
    {100, 0.591445386, 0.528884172},
    {400, 1, 0.424482822},
    {700, 1, 0.0825208277},
    {999, 1, 0.00466009416},
}};

}  // namespace

TEST_CASE("Min-SNR weighs timesteps as diffusers' training scripts do", "[train]") {
  const auto alphas = DiscreteSchedule().alphas_cumprod();
  const auto weight = [](double snr, const auto& prediction) {
    return MinSnrWeight{}(snr, prediction.preconditioning(1 / std::sqrt(snr)));
  };
  for (const auto& expected : golden_weights) {
    const double snr = alphas[expected.timestep] / (1 - alphas[expected.timestep]);
    INFO("timestep " << expected.timestep);
    CHECK(weight(snr, EpsPrediction{}) == Approx(expected.epsilon).epsilon(1e-4));
    CHECK(weight(snr, VPrediction{}) == Approx(expected.velocity).epsilon(1e-4));
    CHECK(weight(snr, SamplePrediction{}) == Approx(expected.epsilon * snr).epsilon(1e-4));
  }
  // The weight applies to the error of the picture, whatever is predicted: c_out times the error of an EDM network.
  const EdmPrediction edm{.sigma_data = 0.5};
  CHECK(weight(4.0, edm) == Approx(4.0 * 0.25 * 0.25 / (0.25 + 0.25)));
  CHECK_THROWS_WITH((MinSnrWeight{.gamma = 0}(1.0, {1, 1, 1})), Catch::Contains("gamma > 0"));
}
