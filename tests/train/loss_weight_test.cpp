#include "ip2p/train/loss_weight.hpp"

#include <array>

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
  const MinSnrWeight weight;
  for (const auto& expected : golden_weights) {
    const double snr = alphas[expected.timestep] / (1 - alphas[expected.timestep]);
    INFO("timestep " << expected.timestep);
    CHECK(weight(snr, PredictionType::epsilon) == Approx(expected.epsilon).epsilon(1e-4));
    CHECK(weight(snr, PredictionType::v_prediction) == Approx(expected.velocity).epsilon(1e-4));
    CHECK(weight(snr, PredictionType::sample) == Approx(expected.epsilon * snr).epsilon(1e-4));
  }
  CHECK(weight(0.0, PredictionType::epsilon) == 1.0);
  CHECK(weight(0.0, PredictionType::v_prediction) == 0.0);
  CHECK_THROWS_WITH(MinSnrWeight{.gamma = 0}(1.0, PredictionType::epsilon), Catch::Contains("gamma > 0"));
}
