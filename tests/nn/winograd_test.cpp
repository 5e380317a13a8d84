#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <array>
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "ip2p/kernels/cpu/winograd.hpp"
#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/convolution.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/state.hpp"
#include "ip2p/train/precision.hpp"
#include "support/catch.hpp"

using namespace ip2p;

namespace {

/// A layer's tensors: outputs have a variance near 1.
struct WinogradCase {
  WinogradCase(std::int64_t in, std::int64_t out, std::int64_t batch, std::int64_t height, std::int64_t width)
      : x(at::randn({batch, in, height, width}).contiguous(at::MemoryFormat::ChannelsLast)),
        weight(at::randn({out, in, 3, 3}) / std::sqrt(9.0 * static_cast<double>(in))),
        bias(at::randn({out})) {}

  /// The rms difference from the sum in double, over the latter's standard deviation.
  [[nodiscard]] double error(const at::Tensor& found, std::int64_t padding, bool doubled = false) const {
    auto input = x.to(at::kDouble);
    if (doubled) input = at::upsample_nearest2d(input, at::IntArrayRef{2 * x.size(2), 2 * x.size(3)});
    const auto expected = at::conv2d(input, weight.to(at::kDouble), bias.to(at::kDouble), 1, padding);
    REQUIRE(found.sizes() == expected.sizes());
    return (found - expected).square().mean().sqrt().item<double>() / expected.std().item<double>();
  }

  at::Tensor x, weight, bias;
};

std::shared_ptr<Conv2d> winograd_layer(std::int64_t in = 40, std::int64_t out = 80, std::int64_t padding = 1) {
  auto conv = std::make_shared<Conv2d>(in, out, 3, 1, padding);
  initialise(*conv, 5);
  return conv;
}

/// Compiled without optimisation, layers are always direct.
bool layers_use_winograd() { return ip2p::detail::vector_code_is_optimised; }

double largest(const at::Tensor& tensor) { return tensor.abs().max().item<double>(); }

}  // namespace

TEST_CASE("Winograd's convolution is as precise as fp32 sums at the channels of Stable Diffusion", "[nn]") {
  const at::NoGradGuard no_grad;
  for (const auto& [in, out, side] :
       {std::array{320L, 320L, 16L}, std::array{960L, 320L, 8L}, std::array{640L, 640L, 8L},
        std::array{1280L, 1280L, 8L}, std::array{2560L, 1280L, 4L}, std::array{128L, 128L, 32L},
        std::array{512L, 512L, 12L}}) {
    INFO(in << " -> " << out << " at " << side);
    const WinogradCase layer(in, out, 1, side, side);
    const auto weight = ip2p::detail::cpu::winograd_weight(layer.weight);
    CHECK(layer.error(ip2p::detail::cpu::winograd(layer.x, weight, layer.bias, 1, false, 4), 1) <= 5e-6);
    CHECK(layer.error(ip2p::detail::cpu::winograd(layer.x, weight, layer.bias, 1, false, 2), 1) <= 1e-6);
  }
}

TEST_CASE("Winograd's convolution holds for any size, number of channels, padding and level of instructions", "[nn]") {
  using ip2p::detail::CpuLevel;
  const at::NoGradGuard no_grad;
  const auto level = GENERATE(CpuLevel::baseline, CpuLevel::avx2, CpuLevel::avx512);
  if (level > ip2p::detail::cpu_level()) {
    WARN("skipped: this processor lacks " << (level == CpuLevel::avx512 ? "AVX-512" : "AVX2"));
    return;
  }
  for (const std::int64_t tile : {2, 4}) {
    for (const auto& [in, out] : {std::pair(1L, 16L), std::pair(3L, 32L), std::pair(16L, 32L), std::pair(37L, 80L),
                                  std::pair(64L, 48L), std::pair(130L, 48L)}) {
      for (const auto& [height, width] : {std::pair(1L, 1L), std::pair(1L, 6L), std::pair(4L, 4L), std::pair(5L, 7L),
                                          std::pair(9L, 3L), std::pair(17L, 30L)}) {
        for (const std::int64_t padding : {0, 1}) {
          for (const bool doubled : {false, true}) {
            const std::int64_t scale = doubled ? 2 : 1;
            if (scale * height + 2 * padding < 3 || scale * width + 2 * padding < 3) continue;
            INFO("tile " << tile << ", " << in << " -> " << out << ", " << height << " x " << width << ", padding "
                         << padding << ", doubled " << doubled);
            const WinogradCase layer(in, out, 2, height, width);
            const auto weight = ip2p::detail::cpu::winograd_weight(layer.weight);
            const auto y = ip2p::detail::cpu::winograd(layer.x, weight, layer.bias, padding, doubled, tile, {}, level);
            // A few channels may cancel, and the error is relative to what is left.
            REQUIRE(layer.error(y, padding, doubled) <= (in < 16 ? 5e-5 : 5e-6));
            const auto residual = at::randn(y.sizes());
            REQUIRE(at::equal(
                ip2p::detail::cpu::winograd(layer.x, weight, layer.bias, padding, doubled, tile, residual, level),
                y + residual));
          }
        }
      }
    }
  }
}

TEST_CASE("Winograd's convolution takes maps in any layout, and none at all", "[nn]") {
  const at::NoGradGuard no_grad;
  const WinogradCase layer(40, 48, 3, 9, 10);
  const auto weight = ip2p::detail::cpu::winograd_weight(layer.weight);
  const auto y = ip2p::detail::winograd(layer.x, weight, layer.bias, 1);
  CHECK(y.is_contiguous(at::MemoryFormat::ChannelsLast));
  CHECK(at::equal(ip2p::detail::winograd(layer.x.contiguous(), weight, layer.bias, 1), y));
  CHECK(ip2p::detail::winograd(layer.x.narrow(0, 0, 0), weight, layer.bias, 1).sizes() ==
        at::IntArrayRef{0, 48, 9, 10});
  CHECK_THROWS_AS(ip2p::detail::winograd(layer.x, weight, layer.bias, 1, false, at::randn({3, 48, 9, 9})), Error);
  const auto without = ip2p::detail::winograd(layer.x, weight, {}, 1);
  CHECK(largest(y - without - layer.bias.view({1, 48, 1, 1})) < 1e-5);
}

TEST_CASE("Winograd's convolution gives a batch the bits of its samples, in any number of threads", "[nn]") {
  const at::NoGradGuard no_grad;
  for (const auto& [height, width] : {std::pair(2L, 2L), std::pair(8L, 8L), std::pair(13L, 11L), std::pair(40L, 24L)}) {
    INFO(height << " x " << width);
    const WinogradCase layer(72, 96, 5, height, width);
    const auto weight = ip2p::detail::cpu::winograd_weight(layer.weight);
    const auto together = ip2p::detail::winograd(layer.x, weight, layer.bias, 1);
    std::vector<at::Tensor> alone;
    for (std::int64_t b = 0; b < 5; ++b) {
      alone.push_back(ip2p::detail::winograd(layer.x.narrow(0, b, 1), weight, layer.bias, 1));
    }
    CHECK(at::equal(at::cat(alone), together));
    const auto threads = at::get_num_threads();
    for (const int other : {1, 2, 5}) {
      at::set_num_threads(other);
      CHECK(at::equal(ip2p::detail::winograd(layer.x, weight, layer.bias, 1), together));
    }
    at::set_num_threads(threads);
  }
}

TEST_CASE("Small maps, whose weights cost more than their products, are divided into smaller tiles", "[nn]") {
  using ip2p::detail::cpu::winograd_tile;
  for (const std::int64_t side : {1, 2, 4}) CHECK(winograd_tile(side, side) == 2);
  for (const std::int64_t side : {8, 16, 64, 512}) CHECK(winograd_tile(side, side) == 4);
}

TEST_CASE("A layer adds a residual with the bits of an addition of its own, whatever its form", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto conv = winograd_layer();
  const auto x = at::randn({2, 40, 9, 6}).contiguous(at::MemoryFormat::ChannelsLast);
  const auto residual = at::randn({2, 80, 9, 6});
  const auto path = std::make_shared<LoraPath>();
  path->down = at::randn({4, 40, 3, 3}) * 0.1;
  path->up = at::randn({80, 4, 1, 1});
  path->scale = std::make_shared<double>(0.7);
  for (const bool with_lora : {false, true}) {
    if (with_lora) conv->loras.push_back(path);
    for (const bool frozen : {false, true}) {
      for (const auto form : {ConvolutionForm::fastest, ConvolutionForm::direct}) {
        INFO("LoRA " << with_lora << ", frozen " << frozen << ", form " << static_cast<int>(form));
        conv->set_form(form);
        if (frozen) conv->freeze();
        const auto kept = residual.clone();
        const auto found = conv->plus(x, residual);
        CHECK(at::equal(residual, kept));
        const auto expected = (*conv)(x) + residual;
        // A LoRA's share is added last, so that the bits may differ.
        if (with_lora) CHECK(largest(found - expected) < 1e-5);
        if (!with_lora) CHECK(at::equal(found, expected));
        if (frozen) conv->thaw();
      }
    }
  }
}

TEST_CASE("Gradients reach a residual that a frozen layer adds", "[nn]") {
  const auto conv = winograd_layer();
  conv->freeze();
  const auto x = at::randn({1, 40, 6, 6});
  const auto residual = at::randn({1, 80, 6, 6}).requires_grad_();
  const auto y = conv->plus(x, residual);
  CHECK(largest(y.detach() - residual.detach() - (*conv)(x).detach()) < 1e-5);
  y.sum().backward();
  CHECK(at::equal(residual.grad(), at::ones_like(residual)));
}

TEST_CASE("A frozen layer uses Winograd's filtering, and the direct form where it is told to", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto conv = winograd_layer();
  const auto x = at::randn({2, 40, 12, 9});
  conv->freeze();
  const auto y = (*conv)(x);
  const auto weight = ip2p::detail::cpu::winograd_weight(conv->plain_weight());
  CHECK(at::equal(y, ip2p::detail::winograd(x, weight, conv->bias, 1)) == layers_use_winograd());

  set_convolution_form(*conv, ConvolutionForm::direct);
  CHECK(conv->form() == ConvolutionForm::direct);
  const auto direct = (*conv)(x);
  const auto packed = ip2p::detail::pack_conv(conv->plain_weight(), 1, 1, x.sizes());
  CHECK(conv->weight.is_mkldnn() == packed.defined());
  if (packed.defined()) CHECK(at::equal(direct, ip2p::detail::conv_with_packed(x, packed, conv->bias, 1, 1)));
  CHECK(largest(y - direct) < 3e-5);

  set_convolution_form(*conv, ConvolutionForm::fastest);
  CHECK(at::equal((*conv)(x), y));
}

TEST_CASE("A layer in Winograd's order keeps its weights, and those who hold them", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto conv = winograd_layer();
  const auto value = conv->weight.clone();
  const auto x = at::randn({1, 40, 8, 8});
  const auto plain = (*conv)(x);
  const bool held = GENERATE(false, true);
  auto kept = held ? conv->weight : at::Tensor();
  const auto memory = conv->weight.storage().getWeakStorageImpl();
  conv->freeze();
  (*conv)(x);
  if (layers_use_winograd()) {
    CHECK(ip2p::detail::cpu::is_winograd_weight(conv->weight));
    CHECK(memory.expired() == !held);  // no second copy
  }
  CHECK(at::equal(conv->plain_weight(), value));
  CHECK(conv->weight_shape() == std::vector<std::int64_t>{80, 40, 3, 3});
  CHECK(at::equal(state_of(*conv).at("weight"), value));
  conv->thaw();
  CHECK(at::equal(conv->weight, value));
  CHECK(conv->weight.is_contiguous());
  CHECK(conv->parameter("weight").is_same(conv->weight));
  if (held) CHECK(conv->weight.is_same(kept));
  CHECK(at::equal((*conv)(x), plain));
}

TEST_CASE("A copy of weights into a layer in Winograd's order is seen by the next call", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto conv = winograd_layer();
  const auto other = winograd_layer();
  initialise(*other, 6);
  const auto x = at::randn({1, 40, 8, 8});
  conv->freeze();
  other->freeze();
  CHECK_FALSE(at::equal((*conv)(x), (*other)(x)));
  copy_weights(*other, *conv);
  CHECK(at::equal((*conv)(x), (*other)(x)));
}

TEST_CASE("Gradients, autocast and other dtypes go past Winograd's filtering", "[nn]") {
  const auto conv = winograd_layer();
  const auto x = at::randn({1, 40, 6, 6});
  const auto plain = (*conv)(x).detach();
  const auto reference = x.clone().requires_grad_();
  (*conv)(reference).sum().backward();
  conv->freeze();
  {
    const at::NoGradGuard no_grad;
    (*conv)(x);
  }
  const auto input = x.clone().requires_grad_();
  const auto y = (*conv)(input);
  CHECK(largest(y.detach() - plain) < 1e-5);
  y.sum().backward();
  CHECK(largest(input.grad() - reference.grad()) < 1e-5);

  const at::NoGradGuard no_grad;
  CHECK((*conv)(x.to(at::kDouble)).scalar_type() == at::kDouble);
  CHECK(largest((*conv)(x.to(at::kDouble)) - plain) < 1e-5);
  CHECK((*conv)(x.to(at::kBFloat16)).scalar_type() == at::kBFloat16);
  const Autocast autocast(at::kCPU, at::kBFloat16);
  CHECK((*conv)(x).scalar_type() == at::kBFloat16);
}

TEST_CASE("A frozen enlargement by Winograd's filtering equals enlarging, then convolving", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto layer = std::make_shared<Upsample>(48);
  initialise(*layer, 3);
  const auto x = at::randn({2, 48, 5, 7});
  const auto doubled = (*layer)(x, 10, 14);
  const auto odd = (*layer)(x, 9, 13);
  layer->freeze();
  layer->conv->freeze();
  CHECK(largest((*layer)(x, 10, 14) - doubled) < 3e-5);
  CHECK(largest((*layer)(x, 9, 13) - odd) < 3e-5);
  set_convolution_form(*layer, ConvolutionForm::direct);
  CHECK(largest((*layer)(x, 10, 14) - doubled) < 3e-5);
  layer->thaw();
  layer->conv->thaw();
  CHECK(at::equal((*layer)(x, 10, 14), doubled));
}

TEST_CASE("Threads that use one layer in Winograd's order for the first time get what each gets alone", "[nn]") {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> inputs{at::randn({1, 40, 4, 4}), at::randn({2, 40, 9, 9}), at::randn({1, 40, 2, 2})};
  std::vector<at::Tensor> alone;
  for (const auto& x : inputs) {
    const auto conv = winograd_layer();
    conv->freeze();
    alone.push_back((*conv)(x));
  }
  for (int repetition = 0; repetition < 20; ++repetition) {
    const auto conv = winograd_layer();
    conv->freeze();
    std::vector<at::Tensor> found(inputs.size());
    std::barrier start(static_cast<std::ptrdiff_t>(inputs.size()));
    {
      std::vector<std::jthread> running;
      for (std::size_t n = 0; n < inputs.size(); ++n) {
        running.emplace_back([&, n] {
          const at::NoGradGuard none;
          start.arrive_and_wait();
          found[n] = (*conv)(inputs[n]);
        });
      }
    }
    for (std::size_t n = 0; n < inputs.size(); ++n) REQUIRE(at::equal(found[n], alone[n]));
  }
}

TEST_CASE("A LoRA changes a layer in Winograd's order as it changes a plain one", "[nn]") {
  const at::NoGradGuard no_grad;
  const auto conv = winograd_layer();
  const auto x = at::randn({1, 40, 8, 8});
  const auto path = std::make_shared<LoraPath>();
  path->down = at::randn({4, 40, 3, 3}) * 0.1;
  path->up = at::randn({80, 4, 1, 1});
  path->scale = std::make_shared<double>(0.7);
  conv->loras.push_back(path);
  const auto plain = (*conv)(x);
  conv->freeze();
  const auto with = (*conv)(x);
  CHECK(largest(with - plain) < 1e-4);
  conv->loras.clear();
  CHECK(largest(with - (*conv)(x)) > 0.1);
}
