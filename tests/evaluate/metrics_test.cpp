#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/evaluate/bootstrap.hpp"
#include "ip2p/evaluate/feature_distance.hpp"
#include "ip2p/evaluate/preservation.hpp"
#include "ip2p/evaluate/ssim.hpp"
#include "ip2p/io/image.hpp"
#include "ip2p/io/psnr.hpp"
#include "support/reference.hpp"

// Expected values: scikit-image, scipy, torchmetrics and numpy, by tests/parity/make_metric_fixtures.py.

namespace {

using namespace ip2p;
using namespace ip2p::testing;

SafetensorsFile inputs() { return SafetensorsFile::open(fixture("evaluate/fixtures/metrics.safetensors")); }
nlohmann::json expected() { return read_json(fixture("evaluate/fixtures/metrics.json")); }

Image flat(std::int64_t width, std::int64_t height, std::uint8_t level) {
  return {width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3), level)};
}

}  // namespace

TEST_CASE("ssim equals scikit-image with the settings of Wang et al.", "[evaluate][parity]") {
  const auto file = inputs();
  const Image a = from_tensor(file.tensor("first")), b = from_tensor(file.tensor("second"));
  CHECK(std::abs(ssim(a, b) - expected().at("ssim").get<double>()) < 1e-9);
  CHECK(std::abs(psnr(a, b) - expected().at("psnr").get<double>()) < 1e-9);
  CHECK(ssim(a, b) == ssim(b, a));
  CHECK(ssim(a, a) == Approx(1.0).margin(1e-12));
}

TEST_CASE("ssim of two flat pictures depends only on their brightness", "[evaluate]") {
  const double c1 = 0.01 * 0.01 * 255 * 255;
  CHECK(ssim(flat(11, 12, 100), flat(11, 12, 150)) ==
        Approx((2.0 * 100 * 150 + c1) / (100.0 * 100 + 150.0 * 150 + c1)).margin(1e-9));
  CHECK_THROWS_WITH(ssim(flat(10, 20, 1), flat(10, 20, 1)), Contains("expected at least 11x11 pixels, found 10x20"));
  CHECK_THROWS_WITH(ssim(flat(11, 20, 1), flat(11, 21, 1)),
                    Contains("expected pictures of one size, found 11x20 and 11x21"));
}

TEST_CASE("preservation measures what lies outside the mask", "[evaluate][parity]") {
  const auto file = inputs();
  const Image a = from_tensor(file.tensor("first")), b = from_tensor(file.tensor("second"));
  const auto outside = preservation(a, b, from_tensor(file.tensor("mask")));
  const auto wanted = expected().at("outside");
  CHECK(std::abs(outside.difference - wanted.at("difference").get<double>()) < 1e-9);
  CHECK(std::abs(outside.psnr - wanted.at("psnr").get<double>()) < 1e-9);
  CHECK(std::abs(outside.ssim - wanted.at("ssim").get<double>()) < 1e-9);

  const auto everywhere = preservation(a, b, flat(47, 40, 0));
  CHECK(everywhere.psnr == Approx(psnr(a, b)));
  CHECK(everywhere.ssim == Approx(ssim(a, b)));
}

TEST_CASE("preservation: if only the inside of the mask changes, the rest is perfect", "[evaluate]") {
  const Image before = flat(30, 30, 90);
  Image after = before, mask = flat(30, 30, 0);
  for (std::size_t i = 0; i < 3 * 30 * 3; ++i) after.pixels[i] = 255;
  for (std::size_t pixel = 0; pixel < 3 * 30; ++pixel) mask.pixels[pixel * 3 + 1] = 1;  // any channel counts
  const auto outside = preservation(before, after, mask);
  CHECK(outside.difference == 0.0);
  CHECK(std::isinf(outside.psnr));
  CHECK(outside.ssim < 1.0);  // windows near the mask see the change
  CHECK_THROWS_WITH(preservation(before, after, flat(30, 30, 1)),
                    Contains("expected pixels outside it, found that it covers the picture"));
  CHECK_THROWS_WITH(preservation(before, after, flat(30, 29, 1)),
                    Contains("mask: expected 30x30 pixels as the pictures have, found 30x29"));
  Image border = flat(30, 30, 1);
  for (std::size_t i = 0; i < 3; ++i) border.pixels[i] = 0;
  CHECK(std::isnan(preservation(before, after, border).ssim));
}

TEST_CASE("frechet_distance equals scipy's matrix root and torchmetrics", "[evaluate][parity]") {
  const auto file = inputs();
  const double found = frechet_distance(file.tensor("real"), file.tensor("fake"));
  const auto wanted = expected().at("fid");
  CHECK(std::abs(found - wanted.at("scipy").get<double>()) < 1e-6);
  CHECK(std::abs(found - wanted.at("torchmetrics").get<double>()) < 1e-6);
}

TEST_CASE("frechet_distance equals its closed forms, also with fewer pictures than features", "[evaluate]") {
  const auto few = CounterNoise(4).normal({5, 12}, 0).to(at::kDouble);
  CHECK(std::abs(frechet_distance(few, few)) < 1e-6);
  CHECK(frechet_distance(few, few + 0.5) == Approx(12 * 0.25).epsilon(1e-6));
  // Commuting covariances: the distance of the deviations.
  const FeatureStatistics a{at::zeros({3}, at::kDouble), at::eye(3, at::kDouble) * 4.0};
  const FeatureStatistics b{at::ones({3}, at::kDouble), at::eye(3, at::kDouble) * 9.0};
  CHECK(frechet_distance(a, b) == Approx(3 + 3 * 1.0));
  CHECK_THROWS_WITH(frechet_distance(few, few.narrow(1, 0, 4)),
                    Contains("expected features of one width, found [12] and [4]"));
  CHECK_THROWS_WITH(feature_statistics(few.narrow(0, 0, 1)), Contains("expected [N, D] with N >= 2, found [1, 12]"));
  CHECK_THROWS_WITH(feature_statistics(at::full({3, 2}, NAN)),
                    Contains("expected finite values, found NaN or infinity"));
}

TEST_CASE("kernel_distance equals torchmetrics; over subsets it depends only on the seed", "[evaluate][parity]") {
  const auto file = inputs();
  const auto real = file.tensor("real"), fake = file.tensor("fake");
  const double whole = kernel_distance(real, fake);
  const auto wanted = expected().at("kid");
  CHECK(std::abs(whole - wanted.at("unequal").get<double>()) < 1e-6);
  CHECK(std::abs(kernel_distance(real.narrow(0, 0, 30), fake) - wanted.at("equal").get<double>()) < 1e-6);

  // A subset that is the whole set leaves nothing to chance.
  const auto all = kernel_distance(real.narrow(0, 0, 30), fake, {.subsets = 3, .size = 30, .seed = 5});
  CHECK(all.mean == Approx(kernel_distance(real.narrow(0, 0, 30), fake)));
  CHECK(all.deviation < 1e-6 * std::abs(all.mean));
  const SubsetOptions some{.subsets = 200, .size = 20, .seed = 5};
  const auto first = kernel_distance(real, fake, some), again = kernel_distance(real, fake, some);
  CHECK(first.mean == again.mean);
  CHECK(first.mean != kernel_distance(real, fake, {.subsets = 200, .size = 20, .seed = 6}).mean);
  CHECK(std::abs(first.mean - whole) < 4 * first.deviation / std::sqrt(200.0));  // unbiased
  CHECK(first.deviation > 0.0);
  CHECK_THROWS_WITH(kernel_distance(real, fake, {.subsets = 2, .size = 31}),
                    Contains("expected at least 31 features for a subset, found [30, 6]"));
  CHECK_THROWS_WITH(kernel_distance(real, fake, {.subsets = 0, .size = 20}),
                    Contains("expected subsets of at least 2, found 0 of 20"));
  CHECK_THROWS_WITH(kernel_distance(real, fake.narrow(1, 0, 3)), Contains("found [40, 6] and [30, 3]"));
}

TEST_CASE("bootstrap_mean agrees with scipy's percentile interval and depends only on the seed", "[evaluate][parity]") {
  const auto scores = inputs().tensor("scores");
  const std::vector<double> values(scores.data_ptr<double>(), scores.data_ptr<double>() + scores.numel());
  const auto wanted = expected().at("bootstrap");
  const BootstrapOptions options{.confidence = 0.9, .resamples = 40000, .seed = 1};
  const auto found = bootstrap_mean(values, options);
  CHECK(found.mean == Approx(wanted.at("mean").get<double>()));
  // Two runs of 40,000 resamples: each end has a deviation of about 4e-4 of an interval of .12.
  CHECK(std::abs(found.low - wanted.at("low").get<double>()) < 2e-3);
  CHECK(std::abs(found.high - wanted.at("high").get<double>()) < 2e-3);
  CHECK(bootstrap_mean(values, options).low == found.low);
  const BootstrapOptions wider{.confidence = 0.99, .resamples = 9999, .seed = 1};
  CHECK(bootstrap_mean(values, wider).low < found.low);

  auto sorted = values;
  std::sort(sorted.begin(), sorted.end());
  CHECK(quantile(sorted, 0.37) == Approx(wanted.at("quantile").get<double>()).epsilon(1e-12));
  CHECK(quantile(sorted, 1.0) == sorted.back());
}

TEST_CASE("bootstrap_mean of equal values has an interval of width 0; bad settings are refused", "[evaluate]") {
  const std::vector<double> same(7, 0.25);
  const auto interval = bootstrap_mean(same, {.resamples = 50});
  CHECK(interval.low == 0.25);
  CHECK(interval.high == 0.25);
  CHECK_THROWS_WITH(bootstrap_mean({}), Contains("expected at least one value, found none"));
  CHECK_THROWS_WITH(bootstrap_mean(same, {.confidence = 1.0}), Contains("confidence between 0 and 1, found 1"));
  CHECK_THROWS_WITH(bootstrap_mean(same, {.resamples = 0}), Contains("at least one resample, found 0"));
  std::stop_source stop;
  stop.request_stop();
  CHECK_THROWS_AS(bootstrap_mean(same, {.stop = stop.get_token()}), Cancelled);
  CHECK_THROWS_WITH(quantile(same, 1.5), Contains("a share of 0 to 1, found 7 values and 1.5"));
}
