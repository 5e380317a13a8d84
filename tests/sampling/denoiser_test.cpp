#include "ip2p/sampling/denoiser.hpp"

#include "ip2p/schedule/edm_sigmas.hpp"
#include "ip2p/schedule/log_linear_sigmas.hpp"
#include "ip2p/testing/denoisers.hpp"
#include "support/golden.hpp"

using namespace ip2p;
using Catch::Matchers::Contains;

namespace {

const Step middle{.index = 1, .count = 3, .sigma = 2.5, .sigma_next = 1.0};

}  // namespace

TEST_CASE("The predictions of one image and one noise denoise to that image", "[sampling]") {
  // eps, v and x0 are three forms of the same thing, so each prediction of the truth must give x0 again.
  const at::Tensor x0 = CounterNoise(1).normal({2, 4, 3, 3}, 0).to(at::kDouble);
  const at::Tensor noise = CounterNoise(2).normal({2, 4, 3, 3}, 0).to(at::kDouble);
  for (const double sigma : {0.03, 1.0, 14.6}) {
    const Step step{.index = 0, .count = 1, .sigma = sigma, .sigma_next = 0.0};
    const at::Tensor x = x0.add(noise, sigma);
    const double alpha = 1.0 / std::sqrt(sigma * sigma + 1.0);
    const at::Tensor v = noise.mul(alpha).sub(x0, alpha * sigma);
    const auto estimate = [&](auto prediction, const at::Tensor& truth) {
      NetworkDenoiser denoiser(
          [&](const at::Tensor& scaled, double) {
            REQUIRE(testing::largest_difference(scaled, x.mul(alpha)) < 1e-12);
            return truth;
          },
          LogLinearSigmas{}, prediction);
      return testing::largest_difference(denoiser(x, step), x0);
    };
    REQUIRE(estimate(EpsPrediction{}, noise) < 1e-12);
    REQUIRE(estimate(VPrediction{}, v) < 1e-12);
    REQUIRE(estimate(SamplePrediction{}, x0) < 1e-12);
    REQUIRE(estimate(AnyPrediction{PredictionType::epsilon}, noise) < 1e-12);
    REQUIRE(estimate(AnyPrediction{PredictionType::v_prediction}, v) < 1e-12);
    REQUIRE(estimate(AnyPrediction{PredictionType::sample}, x0) < 1e-12);
  }
}

TEST_CASE("A network of Karras et al. denoises through EdmPrediction and EdmSigmas", "[sampling]") {
  const double d = 0.5;
  const at::Tensor x0 = CounterNoise(1).normal({2, 4, 3, 3}, 0).to(at::kDouble).mul(d);
  const at::Tensor noise = CounterNoise(2).normal({2, 4, 3, 3}, 0).to(at::kDouble);
  for (const double sigma : {0.002, 0.3, 1.0, 80.0}) {
    const Step step{.index = 0, .count = 1, .sigma = sigma, .sigma_next = 0.0};
    const at::Tensor x = x0.add(noise, sigma);
    const double variance = sigma * sigma + d * d;
    // Equation (8): the training target, which this network returns.
    const at::Tensor target = x0.sub(x, d * d / variance).mul(std::sqrt(variance) / (sigma * d));
    NetworkDenoiser denoiser(
        [&](const at::Tensor& scaled, double t) {
          REQUIRE(testing::largest_difference(scaled, x.div(std::sqrt(variance))) < 1e-12);
          REQUIRE(t == Approx(std::log(sigma) / 4.0).margin(1e-12));
          return target;
        },
        EdmSigmas{}, EdmPrediction{.sigma_data = d});
    REQUIRE(testing::largest_difference(denoiser(x, step), x0) < 1e-12);
  }
}

TEST_CASE("An EDM network that returns 0 is the denoiser of normally distributed data", "[sampling]") {
  NetworkDenoiser denoiser([](const at::Tensor& x, double) { return x.mul(0.0); }, EdmSigmas{},
                           EdmPrediction{.sigma_data = 0.7});
  const at::Tensor x = CounterNoise(1).normal({1, 4, 3, 3}, 0).to(at::kDouble);
  const testing::GaussianDenoiser exact{.mean = 0.0, .deviation = 0.7};
  REQUIRE(testing::largest_difference(denoiser(x, middle), exact(x, middle)) < 1e-15);
}

TEST_CASE("EdmPrediction refuses a deviation that is not positive", "[sampling]") {
  REQUIRE_THROWS_WITH(EdmPrediction{.sigma_data = 0.0}.preconditioning(1.0),
                      "EdmPrediction: expected sigma_data > 0, found 0");
  REQUIRE_THROWS_WITH(EdmPrediction{.sigma_data = NAN}.preconditioning(1.0), Contains("found nan"));
}

TEST_CASE("NetworkDenoiser gives the network the fractional timestep and the step", "[sampling]") {
  const LogLinearSigmas schedule;
  double told_t = -1.0;
  std::int64_t told_index = -1;
  NetworkDenoiser denoiser(
      [&](const at::Tensor& x, double t, const Step& step) {
        told_t = t;
        told_index = step.index;
        return x;
      },
      schedule);
  (void)denoiser(CounterNoise(1).normal({1, 4, 2, 2}, 0), middle);
  REQUIRE(told_t == schedule.sigma_to_t(2.5));
  REQUIRE(told_t != std::round(told_t));
  REQUIRE(told_index == 1);
}

TEST_CASE("NetworkDenoiser returns the dtype of the latents if the network's is narrower", "[sampling]") {
  NetworkDenoiser denoiser([](const at::Tensor& x, double) { return x.to(at::kBFloat16); }, LogLinearSigmas{});
  const at::Tensor x = CounterNoise(1).normal({1, 4, 2, 2}, 0);
  REQUIRE(denoiser(x, middle).scalar_type() == at::kFloat);
}

TEST_CASE("NetworkDenoiser turns branch-wise predictions into branch-wise estimates", "[sampling]") {
  NetworkDenoiser denoiser(
      [](const at::Tensor& x, double, const Step&, int branches) {
        return x.repeat({branches, 1, 1, 1});
      },
      LogLinearSigmas{}, VPrediction{});
  const at::Tensor x = CounterNoise(1).normal({2, 4, 2, 2}, 0);
  const at::Tensor estimates = denoiser(x, middle, 3);
  REQUIRE(estimates.size(0) == 6);
  NetworkDenoiser single([](const at::Tensor& scaled, double) { return scaled; }, LogLinearSigmas{}, VPrediction{});
  REQUIRE(testing::largest_difference(estimates.narrow(0, 4, 2), single(x, middle)) == 0.0);
}

TEST_CASE("NetworkDenoiser refuses a prediction of another shape", "[sampling]") {
  const at::Tensor x = CounterNoise(1).normal({2, 4, 2, 2}, 0);
  NetworkDenoiser doubled([](const at::Tensor& y, double) { return y.repeat({2, 1, 1, 1}); }, LogLinearSigmas{});
  REQUIRE_THROWS_WITH(doubled(x, middle),
                      "network: expected a prediction of the shape [2, 4, 2, 2], found [4, 4, 2, 2]");
  NetworkDenoiser narrow([](const at::Tensor& y, double) { return y.narrow(1, 0, 3); }, LogLinearSigmas{});
  REQUIRE_THROWS_WITH(narrow(x, middle), Contains("found [2, 3, 2, 2]"));
  NetworkDenoiser nothing([](const at::Tensor&, double) { return at::Tensor(); }, LogLinearSigmas{});
  REQUIRE_THROWS_WITH(nothing(x, middle), Contains("found no tensor"));
}
