#include "ip2p/nn/winograd_gradients.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/randn.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "ip2p/core/autograd.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/train/parameters.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

/// The rms difference over the rms of what is expected.
double relative_error(const at::Tensor& found, const at::Tensor& expected) {
  REQUIRE(found.sizes() == expected.sizes());
  return ((found.to(at::kDouble) - expected).square().mean().sqrt() / expected.square().mean().sqrt()).item<double>();
}

/// Result, and gradients of input, weight and bias for the `slope` of the result.
struct Derived {
  at::Tensor result;
  std::vector<at::Tensor> gradients;
};

Derived by_autograd(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& slope,
                    std::int64_t padding) {
  const auto wide = [](const at::Tensor& tensor) { return tensor.detach().to(at::kDouble).requires_grad_(true); };
  const std::vector<at::Tensor> leaves{wide(x), wide(weight), wide(bias)};
  const auto y = at::conv2d(leaves[0], leaves[1], leaves[2], 1, padding);
  return {y.detach(), ip2p::detail::gradients_of((y * slope.to(at::kDouble)).sum(), leaves)};
}

std::shared_ptr<Conv2d> layer_of(std::int64_t in, std::int64_t out, std::int64_t padding = 1, bool with_bias = true) {
  auto conv = std::make_shared<Conv2d>(in, out, 3, 1, padding, with_bias);
  initialise(*conv, 5);
  return conv;
}

at::Tensor map(std::int64_t batch, std::int64_t channels, std::int64_t height, std::int64_t width) {
  return at::randn({batch, channels, height, width}).contiguous(at::MemoryFormat::ChannelsLast);
}

/// Compiled without optimisation, layers are always direct.
bool gradients_use_winograd() { return ip2p::detail::vector_code_is_optimised; }

}  // namespace

TEST_CASE("The gradient of an input by Winograd's filtering is autograd's, at every level of instructions", "[nn]") {
  using ip2p::detail::CpuLevel;
  const auto level = GENERATE(CpuLevel::baseline, CpuLevel::avx2, CpuLevel::avx512);
  if (level > ip2p::detail::cpu_level()) {
    WARN("skipped: this processor lacks " << (level == CpuLevel::avx512 ? "AVX-512" : "AVX2"));
    return;
  }
  for (const std::int64_t tile : {2, 4}) {
    for (const auto& [in, out] : {std::pair(16L, 32L), std::pair(37L, 70L), std::pair(130L, 48L)}) {
      for (const auto& [height, width] : {std::pair(3L, 3L), std::pair(4L, 9L), std::pair(17L, 12L)}) {
        for (const std::int64_t padding : {0, 1}) {
          INFO("tile " << tile << ", " << in << " -> " << out << ", " << height << " x " << width << ", padding "
                       << padding);
          const auto weight = (at::randn({out, in, 3, 3}) / std::sqrt(9.0 * static_cast<double>(in)))
                                  .contiguous(at::MemoryFormat::ChannelsLast);
          const auto slope = map(2, out, height + 2 * padding - 2, width + 2 * padding - 2);
          const auto expected =
              by_autograd(map(2, in, height, width), weight, at::randn({out}), slope, padding).gradients[0];
          const at::NoGradGuard no_grad;
          const auto found = ip2p::detail::cpu::winograd_input_gradient(slope, weight, padding, tile, level);
          REQUIRE(relative_error(found, expected) <= 5e-6);
        }
      }
    }
  }
}

TEST_CASE("A layer that trains by Winograd's filtering has autograd's gradients", "[nn]") {
  for (const bool ordered : {false, true}) {
    for (const std::int64_t padding : {0, 1}) {
      const auto conv = layer_of(40, 80, padding);
      winograd_gradients(*conv);
      if (ordered) static_cast<void>(Parameters().add(*conv, "conv"));
      const auto x = map(2, 40, 15, 10).requires_grad_(true);
      const auto slope = map(2, 80, 13 + 2 * padding, 8 + 2 * padding);
      const auto y = (*conv)(x);
      const auto found = ip2p::detail::gradients_of((y * slope).sum(), {x, conv->weight, conv->bias});
      const auto expected = by_autograd(x, conv->weight, conv->bias, slope, padding);
      CHECK(relative_error(y.detach(), expected.result) <= 5e-6);
      for (std::size_t i = 0; i < 3; ++i) CHECK(relative_error(found[i], expected.gradients[i]) <= 5e-6);

      winograd_gradients(*conv, false);
      const auto direct = (*conv)(x);
      CHECK(direct.equal(at::conv2d(x, conv->weight, conv->bias, 1, padding)));
      CHECK(direct.equal(y) != gradients_use_winograd());
    }
  }
}

TEST_CASE("Only what asks for gradients gets them from a layer that trains by Winograd's filtering", "[nn]") {
  const auto conv = layer_of(32, 32, 1, false);
  winograd_gradients(*conv);
  const auto x = map(1, 32, 12, 12);
  const auto slope = map(1, 32, 12, 12);
  const auto expected = by_autograd(x, conv->weight, at::randn({32}), slope, 1);
  // The weight alone, as in the first layer of a network.
  auto found = ip2p::detail::gradients_of(((*conv)(x)*slope).sum(), {conv->weight});
  CHECK(relative_error(found[0], expected.gradients[1]) <= 5e-6);
  // The input alone: below a LoRA, plain and in the form for inference.
  const auto leaf = x.detach().requires_grad_(true);
  conv->weight.set_requires_grad(false);
  found = ip2p::detail::gradients_of(((*conv)(leaf)*slope).sum(), {leaf});
  CHECK(relative_error(found[0], expected.gradients[0]) <= 5e-6);
  conv->freeze();
  {
    const at::NoGradGuard no_grad;
    static_cast<void>((*conv)(x));
  }
  found = ip2p::detail::gradients_of(((*conv)(leaf)*slope).sum(), {leaf});
  CHECK(relative_error(found[0], expected.gradients[0]) <= 5e-6);
}

TEST_CASE("Small maps are trained on directly, with any batch", "[nn]") {
  const auto conv = layer_of(32, 32);
  winograd_gradients(*conv);
  for (const std::int64_t batch : {1, 16}) {
    const auto x = map(batch, 32, 8, 8);
    CHECK((*conv)(x).equal(at::conv2d(x, conv->weight, conv->bias, 1, 1)));
  }
}

TEST_CASE("Second derivatives are refused where Winograd's filtering is trained with", "[nn]") {
  if (!gradients_use_winograd()) return;
  const auto conv = layer_of(32, 32);
  winograd_gradients(*conv);
  const auto x = map(1, 32, 12, 12).requires_grad_(true);
  CHECK_THROWS_WITH(torch::autograd::grad({(*conv)(x).sum()}, {x}, {}, true, /*create_graph=*/true, false),
                    Catch::Contains("first derivatives alone"));
}
