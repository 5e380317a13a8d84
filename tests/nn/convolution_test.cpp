#include "ip2p/nn/convolution.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/train/precision.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

/// Result and gradients of one layer for one input.
struct Pass {
  Pass(Conv2d& conv, at::Tensor input, std::optional<at::ScalarType> autocast) {
    const auto x = input.detach().requires_grad_();
    for (auto* parameter : {&conv.weight, &conv.bias}) parameter->mutable_grad().reset();
    {
      const Autocast scope(at::kCPU, autocast.value_or(at::kFloat));
      y = conv(x);
    }
    y.to(at::kFloat).square().sum().backward();
    all = {y.detach(), x.grad(), conv.weight.grad(), conv.bias.grad()};
  }

  at::Tensor y;
  std::array<at::Tensor, 4> all;
};

/// Whether `found` differs from `expected` by no more than 16 bits explain: `epsilon` times the largest value.
bool close(const at::Tensor& found, const at::Tensor& expected, double epsilon) {
  const auto largest = expected.abs().max().item<double>();
  return (found.to(at::kFloat) - expected.to(at::kFloat)).abs().max().item<double>() <= epsilon * largest;
}

}  // namespace

// On some CPUs, LibTorch's bf16 convolutions occasionally give NaN gradients over maps smaller than the kernel.
TEST_CASE("A convolution's gradients are finite and close to those of fp32 for every small map", "[nn]") {
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const bool autocast = GENERATE(false, true);
  const double epsilon = dtype == at::kFloat ? 1e-5 : dtype == at::kHalf ? 4e-3 : 3e-2;
  for (const auto& [stride, padding] : {std::pair(1L, 1L), std::pair(2L, 1L), std::pair(2L, 0L)}) {
    for (const std::int64_t channels : {8, 16, 64}) {
      const auto layer = std::make_shared<Conv2d>(channels, channels, 3, stride, padding);
      const auto exact = std::make_shared<Conv2d>(channels, channels, 3, stride, padding);
      for (const auto& [height, width] : {std::pair(1L, 1L), std::pair(2L, 2L), std::pair(1L, 5L), std::pair(3L, 3L)}) {
        if (height + 2 * padding < 3 || width + 2 * padding < 3) continue;
        for (std::int64_t batch = 1; batch <= 4; ++batch) {
          initialise(*layer, static_cast<std::uint64_t>(batch));
          initialise(*exact, static_cast<std::uint64_t>(batch));
          if (!autocast) layer->to(at::kCPU, dtype);
          const auto x = at::randn({batch, channels, height, width}).to(dtype);
          const Pass expected(*exact, x.to(at::kFloat), {});
          for (int repetition = 0; repetition < 5; ++repetition) {
            const Pass found(*layer, autocast ? x.to(at::kFloat) : x, autocast ? std::optional(dtype) : std::nullopt);
            INFO("stride " << stride << ", padding " << padding << ", [" << batch << ", " << channels << ", " << height
                           << ", " << width << "], repetition " << repetition);
            REQUIRE(found.y.scalar_type() == dtype);
            for (std::size_t i = 0; i < found.all.size(); ++i) {
              INFO("0 result, 1 input, 2 weight, 3 bias: " << i);
              REQUIRE(found.all[i].isfinite().all().item<bool>());
              REQUIRE(close(found.all[i], expected.all[i], epsilon));
            }
          }
          if (!autocast) layer->to(at::kCPU, at::kFloat);
        }
      }
    }
  }
}

TEST_CASE("Only gradients of 16-bit convolutions over maps smaller than the kernel are computed in fp32", "[nn]") {
  const auto asks = [](const at::Tensor& x, std::int64_t kernel) {
    const auto weight = at::randn({2, 2, kernel, kernel}, x.options()).requires_grad_();
    return ip2p::detail::gradients_need_fp32(x, weight, {});
  };
  const auto pixel = at::randn({1, 2, 1, 1});
  const auto bf16 = pixel.to(at::kBFloat16);
  CHECK(asks(bf16, 3));
  CHECK(asks(pixel.to(at::kHalf), 3));
  CHECK(asks(at::randn({1, 2, 9, 2}).to(at::kBFloat16), 3));
  CHECK_FALSE(asks(bf16, 1));
  CHECK_FALSE(asks(pixel, 3));
  CHECK_FALSE(asks(at::randn({1, 2, 3, 3}).to(at::kBFloat16), 3));
  CHECK_FALSE(ip2p::detail::gradients_need_fp32(bf16, at::randn({2, 2, 3, 3}), {}));  // nothing asks for gradients
  {
    const Autocast autocast(at::kCPU, at::kBFloat16);
    CHECK(asks(pixel, 3));
  }
  const at::NoGradGuard no_grad;
  CHECK_FALSE(asks(bf16, 3));
}
