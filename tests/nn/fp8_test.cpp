#include "ip2p/nn/fp8.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "ip2p/core/model_changes.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/unet/unet.hpp"
#include "nn/eight_bits.hpp"
#include "support/catch.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

at::Tensor thawed_values(const detail::Fp8& x) { return x.values.to(at::kFloat).mul(x.scale); }

UNet fp8_unet() { return eight_bit_unet(24); }

}  // namespace

TEST_CASE("Numbers in 8 bits keep three bits of their fraction, and their range", "[nn]") {
  const auto x = eight_bit_normal(3, {64, 64}).mul(37.0);
  const auto rounded = detail::to_fp8(x);
  CHECK(rounded.values.scalar_type() == at::kFloat8_e4m3fn);
  CHECK(rounded.values.to(at::kFloat).abs().max().item<double>() == detail::fp8_most);
  CHECK(std::abs(rounded.scale.item<double>() * 448.0 / x.abs().max().item<double>() - 1.0) < 1e-6);
  // Half a unit in the fourth bit of a normal number, 2^-10 scales of a subnormal one.
  const auto bound = x.abs().div(16.0).add(rounded.scale.mul(1.0 / 1024));
  CHECK((thawed_values(rounded) - x).abs().le(bound).all().item<bool>());
  CHECK(eight_bit_error(thawed_values(rounded), x) < 0.03);
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    CHECK(eight_bit_error(thawed_values(detail::to_fp8(x.to(dtype))), x) < 0.03);
  }
  // What is negative decides too; zeros have a scale.
  CHECK(detail::to_fp8(x.abs().neg()).values.to(at::kFloat).min().item<double>() == -detail::fp8_most);
  const auto zeros = detail::to_fp8(at::zeros({4, 4}));
  CHECK(at::equal(thawed_values(zeros), at::zeros({4, 4})));
  auto damaged = x.clone();
  damaged[3][4] = std::numeric_limits<float>::infinity();
  CHECK(thawed_values(detail::to_fp8(damaged)).isnan().any().item<bool>());
  damaged[3][4] = std::nan("");
  CHECK(thawed_values(detail::to_fp8(damaged)).isnan().any().item<bool>());
}

TEST_CASE("A linear layer in 8 bits errs by a few per cent in every dtype", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto weight = eight_bit_normal(4, {96, 320}), bias = eight_bit_normal(5, {1, 96}).squeeze(0);
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{3, 7, 320}, {1, 320}, {50, 320}}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const auto x = eight_bit_normal(6, shape).to(dtype);
      const auto exact = at::linear(x.to(at::kFloat), weight, bias);
      const auto y = detail::fp8_linear(x, detail::to_fp8(weight.to(dtype)), bias);
      INFO(c10::toString(dtype) << eight_bit_error(y, exact));
      CHECK(y.scalar_type() == dtype);
      CHECK(y.sizes() == exact.sizes());
      CHECK(eight_bit_error(y, exact) < 0.05);
      CHECK(eight_bit_error(y, exact) > 0.01);
      // Up to the order of sums, the product of the rounded numbers.
      const auto rounded = detail::to_fp8(x.reshape({-1, 320}));
      const auto same = at::linear(thawed_values(rounded), thawed_values(detail::to_fp8(weight.to(dtype))), bias);
      CHECK(eight_bit_error(y.reshape({-1, 96}), same) < (dtype == at::kFloat ? 1e-5 : 5e-3));
    }
  }
}

TEST_CASE("use_fp8 takes the transformers of a UNet, and drop_fp8 gives them back", "[nn]") {
  auto unet = fp8_unet();
  const auto exact = eight_bit_prediction(unet);
  const auto changes = model_changes();
  const auto fingerprint = unet.fingerprint();
  // A transformer of level 0 on the way down, one in the middle, two on the way up: proj_in, proj_out, to_qkv, to_q,
  // two to_out, and two of the feed-forward layer each. The text's projections are computed once a run.
  CHECK(use_fp8(unet) == 4 * 8);
  CHECK(model_changes() > changes);
  CHECK(unet.fingerprint() != fingerprint);
  const auto found = eight_bit_prediction(unet);
  INFO(eight_bit_error(found, exact));
  CHECK(eight_bit_error(found, exact) < 0.1);
  CHECK(eight_bit_error(found, exact) > 1e-3);
  CHECK(at::equal(eight_bit_prediction(unet), found));

  // Gradients pass through the plain weights, whose values training changes. (Blocks of rows are others then.)
  const auto with_gradients =
      unet(eight_bit_normal(1, {2, 4, 8, 8}), at::ones({1}).mul(500), eight_bit_normal(2, {2, 6, 24}));
  CHECK(with_gradients.requires_grad());
  CHECK(eight_bit_error(with_gradients.detach(), exact) < 1e-5);

  drop_fp8(unet);
  CHECK(at::equal(eight_bit_prediction(unet), exact));
  use_fp8(unet);
  unet.to(at::kCPU, at::kFloat);
  CHECK(at::equal(eight_bit_prediction(unet), exact));
}

TEST_CASE("use_fp8 on a device without products in 8 bits says what it needs", "[nn]") {
  CHECK_THROWS_WITH(detail::require_fp8(at::Device(at::kPrivateUse1)),
                    Contains("fp8: expected a device that multiplies in 8 bits (a GPU of compute capability 8.9") &&
                        Contains("found privateuseone"));
}
