#include "ip2p/kernels/cpu/linear.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>

#include "ip2p/core/autograd.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/lora.hpp"
#include "ip2p/nn/state.hpp"
#include "support/catch.hpp"
#include "support/cpu_levels.hpp"

namespace {

namespace cpu = ip2p::detail::cpu;
using ip2p::detail::CpuLevel;

at::Tensor linear_in_fp64(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return at::linear(x.to(at::kDouble), weight.to(at::kDouble),
                    bias.defined() ? std::optional<at::Tensor>(bias.to(at::kDouble)) : std::nullopt);
}

at::Tensor gated_in_fp64(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto halves = linear_in_fp64(x, weight, bias).chunk(2, -1);
  return halves[0] * at::gelu(halves[1]);
}

/// Root of the mean squared difference over that of the reference.
double linear_error(const at::Tensor& found, const at::Tensor& reference) {
  return ((found.to(at::kDouble) - reference).norm() / reference.norm()).item<double>();
}

}  // namespace

TEST_CASE("Linear layers by blocks are those of fp64 at every level, for any numbers of rows and channels",
          "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(31);
  struct Shape {
    std::int64_t rows, in, out;
  };
  for (const auto& s : {Shape{1, 16, 16}, Shape{3, 17, 19}, Shape{5, 40, 64}, Shape{16, 320, 65}, Shape{24, 31, 130},
                        Shape{25, 385, 63}, Shape{48, 1280, 40}, Shape{191, 77, 48}, Shape{192, 768, 33},
                        Shape{193, 400, 96}, Shape{400, 64, 257}, Shape{577, 5120, 16}}) {
    const auto x = at::randn({s.rows, s.in}, random);
    const auto weight = at::randn({s.out, s.in}, random);
    const auto bias = at::randn({s.out}, random);
    const auto residual = at::randn({s.rows, s.out}, random);
    for (const auto& added : {bias, at::Tensor()}) {
      const auto expected = linear_in_fp64(x, weight, added);
      const auto usual = linear_error(ip2p::detail::libtorch::linear(x, weight, added, {}), expected);
      for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
        INFO(level << ", " << s.rows << " rows, " << s.in << " to " << s.out << ", bias " << added.defined());
        REQUIRE(cpu::fits_blocked_linear(x, weight, added, residual));
        const auto found = cpu::blocked_linear(x, weight, added, {}, false, value);
        REQUIRE(found.sizes() == expected.sizes());
        CHECK(linear_error(found, expected) < 3 * usual + 1e-7);
        const auto sum = cpu::blocked_linear(x, weight, added, residual, false, value);
        CHECK(linear_error(sum, expected + residual) < 3 * usual + 1e-7);
        for (const auto activation :
             {ip2p::Activation::gelu, ip2p::Activation::gelu_tanh, ip2p::Activation::quick_gelu}) {
          const auto bent = cpu::blocked_linear(x, weight, added, {}, false, value, activation);
          CHECK(linear_error(bent, ip2p::detail::libtorch::activated(expected, activation)) < 3 * usual + 5e-7);
        }
        if (s.out % 2 != 0) continue;
        const auto gated = cpu::blocked_linear(x, weight, added, {}, true, value);
        const auto reference = gated_in_fp64(x, weight, added);
        REQUIRE(gated.sizes() == reference.sizes());
        CHECK(linear_error(gated, reference) < 3 * usual + 5e-7);
      }
    }
  }
}

TEST_CASE("Neither threads nor other rows change a bit of a linear layer by blocks", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(32);
  const auto x = at::randn({3, 211, 500}, random);
  const auto weight = at::randn({200, 500}, random);
  const auto bias = at::randn({200}, random);
  const int before = at::get_num_threads();
  for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
    for (const bool gated : {false, true}) {
      INFO(level << ", gated " << gated);
      at::set_num_threads(1);
      const auto alone = cpu::blocked_linear(x, weight, bias, {}, gated, value);
      for (const int threads : {2, 3}) {
        at::set_num_threads(threads);
        CHECK(at::equal(cpu::blocked_linear(x, weight, bias, {}, gated, value), alone));
      }
      at::set_num_threads(before);
      const auto part = x.narrow(0, 1, 1).narrow(1, 100, 37);
      CHECK(at::equal(cpu::blocked_linear(part, weight, bias, {}, gated, value),
                      alone.narrow(0, 1, 1).narrow(1, 100, 37)));
    }
  }
}

TEST_CASE("A linear layer has the same bits with ordered weights as with plain ones, for any numbers of rows",
          "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(34);
  struct Shape {
    std::int64_t in, out;
  };
  for (const auto& s : {Shape{17, 48}, Shape{200, 256}, Shape{400, 96}, Shape{1300, 416}}) {
    const auto weight = at::randn({s.out, s.in}, random), bias = at::randn({s.out}, random);
    const auto ordered = cpu::linear_weight(weight);
    REQUIRE(cpu::is_linear_weight(ordered));
    CHECK_FALSE(cpu::is_linear_weight(weight));
    for (const std::int64_t rows : {1, 2, 5, 77, 300, 600}) {
      const auto x = at::randn({rows, s.in}, random), residual = at::randn({rows, s.out}, random);
      for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
        for (const bool gated : {false, true}) {
          if (gated && s.out % 32 != 0) continue;
          INFO(level << ", " << rows << " rows, " << s.in << " to " << s.out << ", gated " << gated);
          const auto added = residual.narrow(1, 0, gated ? s.out / 2 : s.out);
          CHECK(at::equal(cpu::blocked_linear(x, ordered, bias, added, gated, value),
                          cpu::blocked_linear(x, weight, bias, added, gated, value)));
        }
      }
    }
  }
}

TEST_CASE("The order of a linear layer's weights can be undone", "[kernels]") {
  const auto matrix = at::randn({48, 19});
  CHECK(cpu::linear_weight(matrix).sizes() == at::IntArrayRef({3, 19, 1, 16}));
  CHECK(at::equal(cpu::linear_weight(matrix)[1].squeeze(1), matrix.narrow(0, 16, 16).t()));
  CHECK(at::equal(cpu::plain_weight(cpu::linear_weight(matrix)), matrix));
  const auto kernel = matrix.view({48, 19, 1, 1});
  CHECK(cpu::is_linear_weight(cpu::linear_weight(kernel)));
  CHECK_FALSE(cpu::is_linear_weight(kernel));
  CHECK(at::equal(cpu::plain_weight(cpu::linear_weight(kernel)), kernel));
}

TEST_CASE("What is not finite in a row reaches that row alone", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(33);
  auto x = at::randn({30, 64}, random);
  const auto weight = at::randn({48, 64}, random);
  x[7][3] = std::numeric_limits<float>::quiet_NaN();
  for (const auto& [level, value] : ip2p::testing::cpu_levels()) {
    INFO(level);
    const auto finite = at::isfinite(cpu::blocked_linear(x, weight, {}, {}, false, value));
    CHECK_FALSE(finite[7].any().item<bool>());
    CHECK(finite.narrow(0, 0, 7).all().item<bool>());
    CHECK(finite.narrow(0, 8, 22).all().item<bool>());
  }
}

TEST_CASE("Linear layers by blocks are given only what they can compute", "[kernels]") {
  const auto x = at::randn({8, 32});
  const auto weight = at::randn({48, 32});
  const auto bias = at::randn({48});
  CHECK(cpu::fits_blocked_linear(x, weight, bias));
  CHECK(cpu::fits_blocked_linear(x.t().contiguous().t(), weight, bias));  // copied
  CHECK_FALSE(cpu::fits_blocked_linear(x, weight.t().contiguous().t(), bias));
  CHECK_FALSE(cpu::fits_blocked_linear(x.to(at::kBFloat16), weight, bias));
  CHECK_FALSE(cpu::fits_blocked_linear(x, weight, bias.to(at::kDouble)));
  CHECK_FALSE(cpu::fits_blocked_linear(x, weight, bias.narrow(0, 0, 1)));
  CHECK_FALSE(cpu::fits_blocked_linear(x, weight.narrow(0, 0, 8), {}));
  CHECK_FALSE(cpu::fits_blocked_linear(x.narrow(0, 0, 0), weight, bias));
  CHECK_FALSE(cpu::fits_blocked_linear(x, weight, bias, at::randn({1, 48})));  // one for all rows
  CHECK_FALSE(cpu::fits_blocked_linear(x, weight, bias, at::randn({8, 1})));
}

TEST_CASE("A linear layer adds residuals and opens gates as its parts do one by one", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(34);
  ip2p::Linear layer(40, 96);
  ip2p::initialise(layer, 6);
  const auto x = at::randn({2, 9, 40}, random);
  const auto residual = at::randn({2, 9, 96}, random);
  const auto check = [&] {
    const auto y = layer(x);
    CHECK(linear_error(layer.plus(x, residual), y + residual) < 1e-6);
    const auto halves = y.chunk(2, -1);
    CHECK(linear_error(layer.geglu(x), halves[0] * at::gelu(halves[1])) < 2e-6);
  };
  check();  // with a graph
  const auto sum = layer.plus(x, residual).sum() + layer.geglu(x).sum();
  CHECK(ip2p::detail::gradients_of(sum, {layer.weight})[0].abs().max().item<double>() > 0);

  const at::NoGradGuard no_grad;
  check();
  auto path = std::make_shared<ip2p::LoraPath>();
  path->down = at::randn({2, 40}, random);
  path->up = at::randn({96, 2}, random);
  path->scale = std::make_shared<const double>(0.5);
  const auto before = layer(x);
  layer.loras.push_back(path);
  CHECK(linear_error(layer(x), before) > 0.1);
  check();
}

TEST_CASE("A frozen 1x1 convolution is a linear layer of pixels", "[kernels]") {
  const at::NoGradGuard no_grad;
  auto random = at::make_generator<at::CPUGeneratorImpl>(35);
  const auto x = at::randn({2, 40, 5, 7}, random).contiguous(at::MemoryFormat::ChannelsLast);
  const auto residual = at::randn({2, 48, 5, 7}, random);
  for (const bool with_bias : {true, false}) {
    ip2p::Conv2d conv(40, 48, 1, 1, 0, with_bias);
    ip2p::initialise(conv, 7);
    const auto expected = conv(x);
    conv.freeze();
    const auto found = conv(x);
    CHECK(linear_error(found, expected) < 1e-6);
    CHECK(linear_error(conv.plus(x, residual), expected + residual) < 1e-6);
    CHECK(linear_error(conv(x.contiguous()), expected) < 1e-6);
    const bool by_rows = ip2p::detail::vector_code_is_optimised && ip2p::detail::cpu_level() != CpuLevel::baseline;
    CHECK(cpu::is_linear_weight(conv.weight) == by_rows);
    // One pixel must not choose another form for the maps that follow.
    ip2p::Conv2d other(40, 48, 1, 1, 0, with_bias);
    ip2p::initialise(other, 7);
    other.freeze();
    const auto pixel = x.narrow(0, 0, 1).narrow(2, 0, 1).narrow(3, 0, 1);
    CHECK(linear_error(other(pixel), expected.narrow(0, 0, 1).narrow(2, 0, 1).narrow(3, 0, 1)) < 1e-6);
    CHECK(at::equal(other(x), found));
    conv.set_form(ip2p::ConvolutionForm::direct);
    CHECK(linear_error(conv(x), expected) < 1e-6);
    conv.thaw();
    CHECK(linear_error(conv(x), expected) < 1e-6);
  }
}

TEST_CASE("A frozen linear layer orders its weight, and gives back the plain one", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(36);
  const auto x = at::randn({2, 9, 40}, random), slope = at::randn({2, 9, 64}, random);
  const bool orders = ip2p::detail::vector_code_is_optimised && ip2p::detail::cpu_level() != CpuLevel::baseline;
  for (const bool conv_shape : {false, true}) {
    for (const bool prepared : {false, true}) {
      INFO("as a convolution's " << conv_shape << ", prepared " << prepared);
      ip2p::Linear layer(40, 64, true, conv_shape);
      ip2p::initialise(layer, 8);
      const auto plain = layer.weight, values = layer.weight.detach().clone();
      const auto expected = layer(x).detach().to(at::kDouble);
      layer.freeze();
      const at::NoGradGuard no_grad;
      if (prepared) layer.prepare();
      CHECK(linear_error(layer(x), expected) < 1e-6);
      CHECK(cpu::is_linear_weight(layer.weight) == orders);
      CHECK(layer.named_parameters()[0].second.is_same(layer.weight));
      CHECK(layer.weight_shape() == plain.sizes().vec());
      CHECK(at::equal(layer.plain_weight(), values));
      CHECK(at::equal(ip2p::plain_parameters(layer)[0].second, values));
      CHECK(linear_error(layer(x.narrow(1, 0, 1)), expected.narrow(1, 0, 1)) < 1e-6);  // few rows
      CHECK(linear_error(layer(x.to(at::kBFloat16)), expected) < 2e-2);
      CHECK(linear_error(layer.plus(x, slope), expected + slope) < 1e-6);
      CHECK(linear_error(layer.activated(x, ip2p::Activation::gelu), at::gelu(expected)) < 1e-6);
      const auto halves = expected.chunk(2, -1);
      CHECK(linear_error(layer.geglu(x), halves[0] * at::gelu(halves[1])) < 1e-6);
      {
        const at::AutoGradMode with_graph(true);
        const auto input = x.clone().set_requires_grad(true);
        (layer(input) * slope).sum().backward();
        CHECK(linear_error(input.grad(), at::matmul(slope, values.flatten(1)).to(at::kDouble)) < 1e-6);
      }
      layer.thaw();
      CHECK(layer.weight.is_same(plain));
      CHECK(layer.weight.requires_grad());
      CHECK(at::equal(layer.weight, values));
    }
  }
}

TEST_CASE("A frozen linear layer that is first called with a graph keeps its plain weight", "[kernels]") {
  ip2p::Linear layer(32, 48);
  ip2p::initialise(layer, 9);
  layer.freeze();
  const auto plain = layer.weight;
  const auto x = at::randn({5, 32}).set_requires_grad(true);
  CHECK(layer(x).requires_grad());
  const at::NoGradGuard no_grad;
  layer(x);
  CHECK(layer.weight.is_same(plain));
}
