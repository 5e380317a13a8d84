#include "ip2p/nn/int8.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/cpu_features.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/kernels/cpu/int8.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/unet/unet.hpp"
#include "nn/eight_bits.hpp"
#include "support/catch.hpp"
#include "support/cpu_levels.hpp"

namespace {

using namespace ip2p;
using namespace ip2p::testing;

/// What this processor can compute with: each level, by VNNI and without.
std::vector<std::pair<detail::CpuLevel, bool>> int8_ways() {
  std::vector<std::pair<detail::CpuLevel, bool>> ways;
  for (const auto& [name, level] : cpu_levels()) {
    ways.emplace_back(level, false);
    if (detail::cpu::int8_by_vnni(level)) ways.emplace_back(level, true);
  }
  return ways;
}

/// The values of a weight in 8 bits, [out, in].
at::Tensor int8_widened(const at::Tensor& weight) {
  const auto rounded = detail::to_int8(weight);
  return rounded.values.to(at::kDouble).mul(rounded.scale.to(at::kDouble).unsqueeze(1));
}

UNet int8_unet() { return eight_bit_unet(32); }

}  // namespace

TEST_CASE("Products in 8 bits sum exactly at every level, also at the ends of the range", "[nn]") {
  const at::NoGradGuard no_grad;
  // 255 times 127 in each place: a sum of two such products does not fit 16 bits. One row has every value of a byte.
  for (const std::int64_t depth : {16, 48, 1280}) {
    const std::int64_t rows = 31, out = 48;
    auto x = eight_bit_normal(3, {rows, depth}).mul(80.0).add(128.0).clamp(0, 255).round();
    x[0].fill_(255.0);
    x[1].copy_(at::arange(depth).remainder(256));
    x.select(1, 0).fill_(0.0);
    x.select(1, 1).fill_(255.0);  // each row spans the bytes, so that its step is 1
    auto weight = eight_bit_normal(4, {out, depth}).mul(60.0).clamp(-127, 127).round();
    weight[0].fill_(127.0);
    weight[1].fill_(-127.0);
    const auto values = weight.to(at::kChar);
    const auto expected = at::linear(x.to(at::kDouble), weight.to(at::kDouble));
    for (const auto& [level, vnni] : int8_ways()) {
      INFO(depth << " " << static_cast<int>(level) << " " << vnni);
      const auto y = detail::cpu::int8_product(x, detail::cpu::int8_columns(values), at::ones({out}),
                                               values.sum(1, false, at::kInt).to(at::kFloat), {}, level, vnni);
      // Up to the last bit of fp32, in which steps, scales and sums are multiplied.
      CHECK((y.to(at::kDouble) - expected).abs().le(expected.abs().mul(3e-7).add(0.01)).all().item<bool>());
    }
  }
}

TEST_CASE("Weights in 8 bits err by half a step of their channel", "[nn]") {
  auto weight = eight_bit_normal(5, {32, 64}).mul(eight_bit_normal(6, {32, 1}).mul(3.0).exp());
  weight[3].zero_();
  const auto rounded = detail::to_int8(weight);
  CHECK(rounded.values.scalar_type() == at::kChar);
  CHECK(at::equal(rounded.scale.narrow(0, 4, 28), weight.abs().amax({1}).narrow(0, 4, 28).div(127.0)));
  const auto bound = rounded.scale.to(at::kDouble).mul(0.5001).unsqueeze(1);
  CHECK((int8_widened(weight) - weight.to(at::kDouble)).abs().le(bound).all().item<bool>());
  CHECK(at::equal(int8_widened(weight)[3], at::zeros({64}, at::kDouble)));
  CHECK(at::equal(rounded.sums, rounded.values.to(at::kFloat).sum(1)));
  for (const double damage : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    auto damaged = weight.clone();
    damaged[7][9] = damage;
    CHECK(at::equal(int8_widened(damaged).isnan().any(1), at::arange(32).eq(7)));
  }
}

TEST_CASE("A linear layer in 8 bits errs by one per cent, and its rows are independent", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto weight = eight_bit_normal(7, {96, 320}), bias = eight_bit_normal(8, {1, 96}).squeeze(0);
  const auto in_8_bits = detail::int8_linear_weight(weight);
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{{3, 7, 320}, {1, 320}, {500, 320}, {0, 320}}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const auto x = eight_bit_normal(9, shape).add(0.7).to(dtype);
      const auto exact = at::linear(x.to(at::kFloat), weight, bias);
      const auto y = detail::int8_linear(x, in_8_bits, bias);
      CHECK(y.scalar_type() == dtype);
      CHECK(y.sizes() == exact.sizes());
      if (x.numel() == 0) continue;
      INFO(eight_bit_error(y, exact));
      CHECK(eight_bit_error(y, exact) < 0.015);
      CHECK(eight_bit_error(y, exact) > 1e-3);
      const auto rows = x.reshape({-1, 320}), found = y.reshape({-1, 96});
      CHECK(at::equal(detail::int8_linear(rows.narrow(0, rows.size(0) / 2, 1), in_8_bits, bias),
                      found.narrow(0, rows.size(0) / 2, 1)));
    }
  }
  // The bound of the rounding: half a step of the row for each product with the rounded weights.
  const auto x = eight_bit_normal(10, {40, 320});
  const auto step = (x.amax({1}) - x.amin({1})).div(255.0);
  const auto wide = int8_widened(weight);
  const auto bound = step.to(at::kDouble).mul(0.501).unsqueeze(1) * wide.abs().sum(1).unsqueeze(0);
  const auto error = detail::int8_linear(x, in_8_bits, {}).to(at::kDouble) - at::linear(x.to(at::kDouble), wide);
  CHECK(error.abs().le(bound).all().item<bool>());
  // Equal numbers, and what is not finite.
  auto odd = at::cat({at::full({1, 320}, 2.5), at::zeros({1, 320}), eight_bit_normal(11, {4, 320})});
  odd[3][5] = std::numeric_limits<float>::infinity();
  odd[4][6] = -std::numeric_limits<float>::infinity();
  odd[5][319] = std::nan("");
  for (const auto& [level, vnni] : int8_ways()) {
    const auto y = detail::cpu::int8_product(odd, in_8_bits.values, in_8_bits.scale, in_8_bits.sums, bias, level, vnni);
    CHECK(eight_bit_error(y[0], at::linear(odd[0].to(at::kDouble), wide, bias.to(at::kDouble))) < 1e-5);
    CHECK(at::equal(y[1], bias));
    CHECK(y[2].isfinite().all().item<bool>());
    CHECK(y.narrow(0, 3, 3).isnan().all().item<bool>());
  }
  CHECK_THROWS_WITH(detail::int8_linear(at::ones({2, 64}), in_8_bits, bias),
                    "Linear: x: expected 320 numbers a row, found 64");
}

TEST_CASE("A convolution with weights in 8 bits is that with the rounded weights", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto weight = eight_bit_normal(12, {48, 40, 3, 3}), bias = eight_bit_normal(13, {1, 48}).squeeze(0);
  const auto in_8_bits = detail::int8_conv_weight(weight);
  const auto wide = int8_widened(weight.flatten(1)).view(weight.sizes());
  const auto conv = [&](const at::Tensor& x, std::int64_t padding) {
    return at::conv2d(x.to(at::kDouble), wide, bias.to(at::kDouble), 1, padding);
  };
  const auto x = eight_bit_normal(14, {2, 40, 13, 9});
  for (const std::int64_t padding : {0, 1}) {
    CHECK(eight_bit_error(detail::int8_winograd(x, in_8_bits, bias, padding), conv(x, padding)) < 1e-5);
  }
  const auto residual = eight_bit_normal(15, {2, 48, 13, 9});
  CHECK(eight_bit_error(detail::int8_winograd(x, in_8_bits, bias, 1, false, residual),
                        conv(x, 1) + residual.to(at::kDouble)) < 1e-5);
  CHECK(eight_bit_error(detail::int8_winograd(x, in_8_bits, bias, 1, true),
                        conv(at::upsample_nearest2d(x, at::IntArrayRef{26, 18}), 1)) < 1e-5);
  const auto narrow = detail::int8_winograd(x.to(at::kBFloat16), in_8_bits, bias, 1);
  CHECK(narrow.scalar_type() == at::kBFloat16);
  CHECK(eight_bit_error(narrow, conv(x, 1)) < 0.01);
  // From the plain weights it differs by the rounding.
  const auto error =
      eight_bit_error(detail::int8_winograd(x, in_8_bits, bias, 1), at::conv2d(x, weight, bias, 1, at::IntArrayRef{1}));
  CHECK(error > 1e-3);
  CHECK(error < 0.012);
  for (const auto level : {detail::CpuLevel::baseline, detail::CpuLevel::avx2, detail::CpuLevel::avx512}) {
    if (level > detail::cpu_level()) break;
    for (const std::int64_t tile : {2, 4}) {
      const auto y = detail::cpu::winograd(x, in_8_bits.values, bias, 1, false, tile, {}, level, in_8_bits.scale);
      CHECK(eight_bit_error(y, conv(x, 1)) < 1e-5);
    }
  }
  CHECK_THROWS_WITH(detail::int8_winograd(eight_bit_normal(1, {1, 8, 4, 4}), in_8_bits, bias, 1),
                    Contains("Conv2d: x: expected maps [batch, 40, height, width]"));
}

TEST_CASE("use_int8 holds a UNet's transformers and convolutions in 8 bits", "[nn]") {
  auto unet = int8_unet();
  unet.freeze();
  const auto exact = eight_bit_prediction(unet);  // convolutions have taken their forms for inference
  const auto changes = model_changes();
  const auto fingerprint = unet.fingerprint();
  // Four transformers of nine linear layers. Convolutions: two in each of 2 + 2 + 4 residual blocks, one that enlarges.
  CHECK(use_int8(unet) == 4 * 9 + 2 * 8 + 1);
  CHECK(model_changes() > changes);
  CHECK(unet.fingerprint() != fingerprint);
  std::int64_t in_8_bits = 0;
  for (auto* part : unet.module().modules()) {
    const auto* host = dynamic_cast<Int8Host*>(part);
    if (host == nullptr || !host->int8) continue;
    ++in_8_bits;
    const auto weight = part->parameter("weight");
    CHECK(static_cast<std::int64_t>(host->int8->values.nbytes()) == weight.numel());
    CHECK(weight.storage().nbytes() == sizeof(float));
    CHECK(weight.isnan().all().item<bool>());
  }
  CHECK(in_8_bits == 4 * 9 + 2 * 8 + 1);

  const auto found = eight_bit_prediction(unet);
  INFO(eight_bit_error(found, exact));
  CHECK(eight_bit_error(found, exact) < 0.05);
  CHECK(eight_bit_error(found, exact) > 1e-4);
  CHECK(at::equal(eight_bit_prediction(unet), found));
  const auto alone = [&] {
    const at::NoGradGuard no_grad;
    return unet(eight_bit_normal(1, {2, 4, 8, 8}).narrow(0, 1, 1), at::ones({1}).mul(500),
                eight_bit_normal(2, {2, 6, 32}).narrow(0, 1, 1));
  }();
  CHECK(eight_bit_error(alone, found.narrow(0, 1, 1)) < 5e-3);

  // The weights are gone.
  const std::string gone = "expected weights in full, to train, save, replace, move or convert them, found weights";
  CHECK_THROWS_WITH(unet.thaw(), Contains(gone));
  CHECK_THROWS_WITH(unet.to(at::kBFloat16), Contains(gone));
  CHECK_THROWS_WITH(unet.to(at::kCPU), Contains(gone));
  CHECK_THROWS_WITH(state_of(unet.module()), Contains(gone));
  CHECK_THROWS_WITH(initialise(unet.module(), 8), Contains(gone));
  CHECK_THROWS_WITH(copy_weights(int8_unet().module(), unet.module()), Contains(gone));
  CHECK_THROWS_WITH(use_int8(unet), "int8: expected a model with weights in full, found one in 8 bits already");
  CHECK(at::equal(eight_bit_prediction(unet), found));
  const auto x = eight_bit_normal(1, {2, 4, 8, 8}).set_requires_grad(true);
  CHECK_THROWS_WITH(unet(x, at::ones({1}).mul(500), eight_bit_normal(2, {2, 6, 32})),
                    Contains("expected a call that records no gradients, because its weight is in 8 bits"));
}

TEST_CASE("use_int8 refuses models that it cannot serve, and leaves them as they are", "[nn]") {
  auto unet = int8_unet();
  unet.to(at::kBFloat16);
  CHECK_THROWS_WITH(use_int8(unet), "int8: expected a model that computes in fp32, found BFloat16");
  CHECK_NOTHROW(unet.thaw());
  // Weights stored in 16 bits, widened for arithmetic in fp32, are no obstacle.
  unet.compute_in(at::kFloat);
  const auto exact = eight_bit_prediction(unet);
  CHECK(use_int8(unet) > 0);
  CHECK(eight_bit_error(eight_bit_prediction(unet), exact) < 0.05);
}

TEST_CASE("LoRAs add to layers in 8 bits in full precision", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto scale = std::make_shared<double>(0.5);
  Linear linear(32, 48);
  Conv2d conv(32, 48, 3, 1, 1);
  initialise(linear, 3);
  initialise(conv, 4);
  linear.int8 = std::make_shared<const detail::Int8Weight>(detail::int8_linear_weight(linear.weight));
  conv.int8 = std::make_shared<const detail::Int8Weight>(detail::int8_conv_weight(conv.weight));
  const auto rows = eight_bit_normal(1, {5, 32}), map = eight_bit_normal(2, {1, 32, 6, 6}),
             other = eight_bit_normal(3, {1, 48, 6, 6});
  const auto y = linear(rows), z = conv.plus(map, other);
  const auto down = eight_bit_normal(4, {2, 32}), up = eight_bit_normal(5, {48, 2});
  linear.loras.push_back(std::make_shared<LoraPath>(LoraPath{.down = down, .up = up, .scale = scale}));
  CHECK(eight_bit_error(linear(rows) - y, at::linear(at::linear(rows, down), up).mul(0.5)) < 1e-5);
  const auto taps = eight_bit_normal(6, {2, 32, 3, 3});
  conv.loras.push_back(
      std::make_shared<LoraPath>(LoraPath{.down = taps, .up = up.view({48, 2, 1, 1}), .scale = scale}));
  const auto change = at::conv2d(at::conv2d(map, taps, {}, 1, 1), up.view({48, 2, 1, 1})).mul(0.5);
  CHECK(eight_bit_error(conv.plus(map, other) - z, change) < 1e-4);
  // Mistakes about the parameter show.
  CHECK(conv.int8->sums.defined() == false);
}

TEST_CASE("VNNI is known by its own bits", "[core]") {
  using detail::CpuFeatures;
  const CpuFeatures avx512{.saved = 0xe7, .ebx = 1U << 30 | 1U << 17 | 1U << 31, .ecx = 1U << 11};
  CHECK(detail::has_avx512_vnni(avx512));
  CHECK_FALSE(detail::has_avx_vnni(avx512));
  auto without = avx512;
  without.ecx = ~(1U << 11);
  CHECK_FALSE(detail::has_avx512_vnni(without));
  without = avx512;
  without.saved = 0x7;  // an operating system that does not save the registers
  CHECK_FALSE(detail::has_avx512_vnni(without));
  CHECK(detail::has_avx_vnni({.saved = 0x7, .eax_1 = 1U << 4}));
  CHECK_FALSE(detail::has_avx_vnni({.saved = 0x7, .eax_1 = ~(1U << 4)}));
  CHECK_FALSE(detail::has_avx_vnni({.saved = 0x1, .eax_1 = 1U << 4}));
  // What the compiler's runtime says.
#if defined(__x86_64__)
  CHECK(detail::has_avx512_vnni() == (__builtin_cpu_supports("avx512vnni") != 0));
#endif
  CHECK(int8_is_faster() == detail::cpu::int8_by_vnni(detail::cpu_level()));
}
