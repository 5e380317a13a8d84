#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <tuple>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/autograd.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/nn/blocks.hpp"
#include "ip2p/nn/finite_probe.hpp"
#include "ip2p/nn/initialise.hpp"
#include "ip2p/nn/transformer.hpp"
#include "support/catch.hpp"

namespace {

/// Puts another table in the CPU's place for a while.
class TableForCpu {
 public:
  explicit TableForCpu(const ip2p::Kernels& table) : before_(ip2p::register_kernels(at::kCPU, &table)) {}
  ~TableForCpu() { ip2p::register_kernels(at::kCPU, before_); }
  TableForCpu(const TableForCpu&) = delete;
  TableForCpu& operator=(const TableForCpu&) = delete;

 private:
  const ip2p::Kernels* before_;
};

at::Tensor normal(at::IntArrayRef sizes, std::uint64_t seed) {
  return at::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(seed));
}

double relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

}  // namespace

TEST_CASE("A residual block gives the same with the biases of its convolutions apart", "[nn]") {
  const at::NoGradGuard no_grad;
  static const ip2p::Kernels apart = [] {
    auto entries = ip2p::cpu_kernels();
    entries.bias_apart = true;
    return entries;
  }();
  for (const auto& [in, out, time_channels] : {std::tuple{16, 16, 0}, {16, 24, 0}, {24, 24, 12}, {16, 24, 12}}) {
    for (const bool frozen : {false, true}) {
      for (const std::int64_t batch : {1, 3}) {
        ip2p::ResnetBlock block(in, out, time_channels, 8, 1e-5);
        ip2p::initialise(block, 5);
        for (const auto& [name, parameter] : block.named_parameters()) {
          if (parameter.dim() == 1) parameter.copy_(normal(parameter.sizes(), 9) + 0.5);
        }
        const auto time = time_channels > 0 ? normal({1, out, 1, 1}, 4) : at::Tensor();
        for (auto& conv : {block.conv1, block.conv2, block.conv_shortcut}) {
          if (conv && frozen) conv->freeze();
        }
        const auto x = normal({batch, in, 9, 7}, 3).contiguous(at::MemoryFormat::ChannelsLast);
        const auto plain = block(x, time);
        const TableForCpu other(apart);
        CHECK(relative(block(x, time), plain) < 1e-5);
      }
    }
  }
}

TEST_CASE("Norms, GEGLU and sums of layers are those of LibTorch, with and without gradients", "[nn]") {
  ip2p::GroupNorm norm(8, 32, 1e-6);
  ip2p::LayerNorm layer(32);
  for (auto* parameter : {&norm.weight, &norm.bias, &layer.weight, &layer.bias}) {
    const at::NoGradGuard no_grad;
    parameter->copy_(normal({32}, 8));
  }
  const auto x = normal({2, 32, 5, 6}, 1).contiguous(at::MemoryFormat::ChannelsLast).requires_grad_(true);
  const auto add = normal({2, 32, 1, 1}, 2);
  const auto expected = at::silu(at::group_norm(x + add, 8, norm.weight, norm.bias, 1e-6));
  const auto tokens = normal({2, 7, 32}, 3);
  const auto more = normal({2, 7, 32}, 4);
  const auto normed = at::layer_norm(tokens + more, {32}, layer.weight, layer.bias, 1e-5);
  const auto recorded = norm.silu(x, add);
  CHECK(recorded.requires_grad());
  CHECK(at::equal(recorded, expected));
  const auto through_sum = layer.of_sum(tokens, more);
  CHECK(at::equal(through_sum.normed, normed));
  const auto gradients = ip2p::detail::gradients_of((recorded * recorded).sum(), {norm.weight, x});
  const auto reference = ip2p::detail::gradients_of((expected * expected).sum(), {norm.weight, x});
  CHECK(at::equal(gradients[0], reference[0]));
  CHECK(at::equal(gradients[1], reference[1]));

  const at::NoGradGuard no_grad;
  CHECK(relative(norm.silu(x, add), expected) < 1e-6);
  CHECK(relative(layer.of_sum(tokens, more).normed, normed) < 1e-6);
  CHECK(at::equal(layer.of_sum(tokens, more).sum, tokens + more));

  ip2p::FeedForward feed(32);
  ip2p::initialise(feed, 2);
  const auto halves = (*feed.proj)(tokens).chunk(2, -1);
  CHECK(relative(feed(tokens), (*feed.out)(halves[0] * at::gelu(halves[1]))) < 2e-6);
}

TEST_CASE("Under autocast norms compute in fp32 with their own weights", "[nn]") {
  const at::NoGradGuard no_grad;
  ip2p::GroupNorm norm(4, 16, 1e-5);
  norm.weight.copy_(normal({16}, 8) * 0.01 + 1);
  norm.bias.copy_(normal({16}, 9));
  const auto x = normal({2, 16, 5, 6}, 1).contiguous(at::MemoryFormat::ChannelsLast);
  const auto expected = norm.silu(x);
  const auto dtype = at::autocast::get_autocast_dtype(at::kCPU);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto wide = norm.silu(x);
  const auto narrow = norm.silu(x.to(at::kBFloat16));
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::set_autocast_dtype(at::kCPU, dtype);
  CHECK(relative(wide.to(at::kFloat), expected) < 1e-2);
  CHECK(relative(narrow.to(at::kFloat), expected) < 2e-2);
}

TEST_CASE("The search for the first value that is not finite sees fused layers", "[nn]") {
  const at::NoGradGuard no_grad;
  ip2p::GroupNorm norm(4, 16, 1e-5);
  ip2p::GroupNorm after(4, 16, 1e-5);
  ip2p::LayerNorm layer(16);
  for (auto* parameter : {&norm.weight, &norm.bias, &after.weight, &after.bias, &layer.weight, &layer.bias}) {
    parameter->fill_(1.0);
  }
  const auto x = normal({1, 16, 4, 4}, 1).contiguous(at::MemoryFormat::ChannelsLast);
  norm.bias.select(0, 3).fill_(std::numeric_limits<float>::quiet_NaN());
  {
    ip2p::detail::FiniteProbe probe;
    (void)after.silu(norm.silu(x));
    CHECK(probe.first() == &norm);
  }
  layer.weight.fill_(std::numeric_limits<float>::infinity());
  ip2p::detail::FiniteProbe probe;
  const auto tokens = normal({1, 3, 16}, 2);
  (void)layer.of_sum(tokens, tokens);
  CHECK(probe.first() == &layer);
}

TEST_CASE("Doubling a map uses the table, other sizes LibTorch", "[nn]") {
  const at::NoGradGuard no_grad;
  static int calls = 0;
  static const ip2p::Kernels counting = [] {
    auto entries = ip2p::cpu_kernels();
    entries.upsample_nearest_2x = [](const at::Tensor& x) {
      ++calls;
      return ip2p::libtorch_kernels().upsample_nearest_2x(x);
    };
    return entries;
  }();
  const TableForCpu other(counting);
  ip2p::Upsample upsample(8);
  ip2p::initialise(upsample, 1);
  const auto x = normal({1, 8, 3, 4}, 1).contiguous(at::MemoryFormat::ChannelsLast);
  CHECK(upsample(x, 6, 8).size(3) == 8);
  CHECK(upsample(x, 5, 8).size(2) == 5);
  CHECK(calls == 1);
}
