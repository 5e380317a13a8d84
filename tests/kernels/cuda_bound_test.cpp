// The CUDA table's entries, with the device played by the host: which arguments kernels take, what tensors become of
// them, gradients. The kernels themselves are those of the device.

#include "ip2p/kernels/cuda/bound.hpp"

#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/kernels/table.hpp"
#include "kernels/run_on_host.hpp"
#include "support/catch.hpp"

namespace {

/// Counts what was queued, so that a test knows that LibTorch's operators were not asked.
struct HostDevice {
  struct Queue : on_host::Run {
    template <class Kernel>
    ip2p::kernels::Status operator()(const Kernel& kernel, const ip2p::kernels::Grid& grid) const {
      ++queued;
      return on_host::Run::operator()(kernel, grid);
    }
  };
  struct Scope {
    explicit Scope(const at::Tensor& /*x*/) {}
    Queue queue;
  };
  static bool has(const at::Tensor& x) { return x.is_cpu(); }
  static ip2p::kernels::DeviceLimits limits(const at::Tensor& /*x*/) { return {132, 9, 227 << 10}; }
  static const char* text(ip2p::kernels::Status /*status*/) { return "invalid value"; }
  static inline int queued = 0;
};

const ip2p::Kernels& host_table() { return ip2p::kernels::Bound<HostDevice>::table(); }

/// A leaf of random numbers; every call another stream.
at::Tensor leaf(at::IntArrayRef sizes, at::ScalarType dtype = at::kFloat, bool map = false) {
  static std::uint64_t seed = 100;
  auto x = at::randn(sizes, at::make_generator<at::CPUGeneratorImpl>(++seed), at::kFloat).to(dtype);
  if (map) x = x.contiguous(at::MemoryFormat::ChannelsLast);
  return x.requires_grad_();
}

/// The same numbers as another leaf.
at::Tensor again(const at::Tensor& x) { return x.defined() ? x.detach().clone().requires_grad_() : x; }

std::vector<at::Tensor> again(const std::vector<at::Tensor>& all) {
  std::vector<at::Tensor> copies;
  for (const auto& x : all) copies.push_back(again(x));
  return copies;
}

/// Values and gradients of `work(table, arguments)` by the host's table and by LibTorch's operators are equal, and
/// kernels computed ours, also without a graph.
template <class Work>
void check_same(const std::vector<at::Tensor>& arguments, Work work, double within = 2e-6) {
  const auto ours = again(arguments), theirs = again(arguments);
  HostDevice::queued = 0;
  const auto found = work(host_table(), ours);
  CHECK(HostDevice::queued > 0);
  const auto expected = work(ip2p::libtorch_kernels(), theirs);
  REQUIRE(found.scalar_type() == expected.scalar_type());
  REQUIRE(found.sizes() == expected.sizes());
  CHECK(on_host::relative_error(found.detach(), expected.detach()) < within);
  REQUIRE(found.requires_grad());
  const auto dy =
      at::randn(found.sizes(), at::make_generator<at::CPUGeneratorImpl>(1), at::kFloat).to(found.scalar_type());
  HostDevice::queued = 0;
  found.backward(dy);
  expected.backward(dy);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (!arguments[i].defined()) continue;
    INFO("argument " << i);
    REQUIRE(ours[i].grad().defined());
    CHECK(ours[i].grad().scalar_type() == arguments[i].scalar_type());
    REQUIRE(ours[i].grad().sizes() == arguments[i].sizes());
    CHECK(on_host::relative_error(ours[i].grad(), theirs[i].grad()) < 3 * within);
  }
  const at::NoGradGuard no_grad;
  HostDevice::queued = 0;
  const auto plain = work(host_table(), ours);
  CHECK(HostDevice::queued > 0);
  CHECK(plain.equal(found));
  CHECK_FALSE(plain.requires_grad());
}

}  // namespace

TEST_CASE("The CUDA table's group norm has LibTorch's values and gradients", "[kernels]") {
  const auto norm = [](std::int64_t groups, bool silu) {
    return [=](const ip2p::Kernels& table, const std::vector<at::Tensor>& in) {
      return table.group_norm_silu(in[0], in[1], in[2], in[3], groups, 1e-5, silu);
    };
  };
  for (const std::int64_t channels : {64, 15}) {
    const std::int64_t groups = channels == 64 ? 32 : 3;
    const auto x = leaf({2, channels, 5, 6}, at::kFloat, true), weight = leaf({channels}), bias = leaf({channels});
    check_same({x, at::Tensor(), weight, bias}, norm(groups, true), 1e-5);
    check_same({x, leaf({2, channels, 1, 1}), weight, bias}, norm(groups, true), 1e-5);
    check_same({x, leaf({1, channels, 1, 1}), weight, bias}, norm(groups, false), 1e-5);
  }
  const auto x = leaf({2, 64, 4, 4}, at::kBFloat16, true);
  check_same({x, leaf({2, 64, 1, 1}, at::kBFloat16), leaf({64}, at::kBFloat16), leaf({64}, at::kBFloat16)},
             norm(8, true), 2e-2);
}

TEST_CASE("The CUDA table's GEGLU has LibTorch's values and gradients", "[kernels]") {
  const auto geglu = [](const ip2p::Kernels& table, const std::vector<at::Tensor>& in) {
    return table.geglu(in[0], in[1]);
  };
  check_same({leaf({2, 5, 64}), leaf({64})}, geglu);
  check_same({leaf({3, 22}), at::Tensor()}, geglu);
  check_same({leaf({2, 5, 64}, at::kHalf), leaf({64}, at::kHalf)}, geglu, 4e-3);
}

TEST_CASE("The CUDA table's layer norm has LibTorch's values and gradients, of both results", "[kernels]") {
  for (const int use : {1, 2, 3}) {  // the sum, the normalised sum, both
    const auto norm = [use](const ip2p::Kernels& table, const std::vector<at::Tensor>& in) {
      const auto both = table.add_layer_norm(in[0], in[1], in[2], in[3], 1e-5);
      if (use == 1) return both.sum + 0 * both.normed;
      return use == 2 ? both.normed : both.sum * 2 + both.normed;
    };
    check_same({leaf({2, 7, 40}), leaf({2, 7, 40}), leaf({40}), leaf({40})}, norm, 5e-6);
    check_same({leaf({5, 13}), leaf({5, 13}), leaf({13}), leaf({13})}, norm, 5e-6);
  }
  // Only the sum is used: no gradient reaches the parameters but zeros.
  const auto x = leaf({3, 8}), residual = leaf({3, 8}), weight = leaf({8}), bias = leaf({8});
  host_table().add_layer_norm(x, residual, weight, bias, 1e-5).sum.backward(at::ones({3, 8}));
  CHECK(x.grad().equal(at::ones({3, 8})));
  CHECK(residual.grad().equal(at::ones({3, 8})));
}

TEST_CASE("The CUDA table's bias and residual have LibTorch's values and gradients", "[kernels]") {
  const auto sum = [](const ip2p::Kernels& table, const std::vector<at::Tensor>& in) {
    return table.add_bias_residual(in[0], in[1], in[2]);
  };
  const auto map = [] { return leaf({2, 12, 3, 5}, at::kFloat, true); };
  check_same({map(), leaf({12}), map()}, sum);
  check_same({map(), at::Tensor(), map()}, sum);
  check_same({map(), leaf({12}), at::Tensor()}, sum);
}

TEST_CASE("The CUDA table's step and doubling are LibTorch's", "[kernels]") {
  const at::NoGradGuard no_grad;
  for (const auto dtype : {at::kFloat, at::kHalf}) {
    for (const bool last : {false, true}) {
      INFO(c10::toString(dtype) << (last ? " channels-last" : ""));
      ip2p::GuidedStep step;
      step.predictions = leaf({6, 4, 5, 3}, dtype, last).detach();
      step.latents = leaf({2, 4, 5, 3}, at::kFloat, last).detach();
      step.noise = leaf({2, 4, 5, 3}).detach();
      if (last) step.images = leaf({4, 4, 5, 3}, dtype).detach();
      step.coefficients = leaf({8}).detach();
      step.inputs = 2;
      HostDevice::queued = 0;
      const auto found = host_table().guided_step(step);
      CHECK(HostDevice::queued == 1);
      const auto expected = ip2p::libtorch_kernels().guided_step(step);
      CHECK(on_host::relative_error(found.latents, expected.latents) < 1e-6);
      CHECK(on_host::relative_error(found.estimate, expected.estimate) < 1e-6);
      CHECK(on_host::relative_error(found.input, expected.input) < on_host::tolerance(dtype));
      CHECK(found.input.strides() == expected.input.strides());
      CHECK(found.latents.strides() == step.latents.strides());
      step.noise = step.noise.narrow(0, 0, 1);
      CHECK_THROWS_AS(host_table().guided_step(step), ip2p::Error);
    }
  }
  const auto x = leaf({2, 12, 3, 5}, at::kBFloat16, true).detach();
  HostDevice::queued = 0;
  const auto doubled = host_table().upsample_nearest_2x(x);
  CHECK(HostDevice::queued == 1);
  CHECK(doubled.equal(ip2p::libtorch_kernels().upsample_nearest_2x(x)));
  CHECK(doubled.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST_CASE("What the CUDA kernels do not take, LibTorch's operators compute", "[kernels]") {
  const at::NoGradGuard no_grad;
  HostDevice::queued = 0;
  const auto& table = host_table();
  const auto weight = leaf({8}).detach(), bias = leaf({8}).detach();
  const auto norm = [&](const at::Tensor& x) {
    const auto w = weight.to(x.scalar_type()), b = bias.to(x.scalar_type());
    CHECK(table.group_norm_silu(x, {}, w, b, 4, 1e-5, true)
              .equal(ip2p::libtorch_kernels().group_norm_silu(x, {}, w, b, 4, 1e-5, true)));
  };
  norm(leaf({2, 8, 3, 3}).detach());                     // NCHW
  norm(leaf({2, 8, 3, 3}, at::kDouble, true).detach());  // fp64
  norm(leaf({0, 8, 3, 3}, at::kFloat, true).detach());   // nothing
  CHECK(table.geglu(leaf({8, 3}).detach().t(), {}).sizes() == at::IntArrayRef{3, 4});
  CHECK(table.geglu(leaf({3, 8}, at::kDouble).detach(), {}).scalar_type() == at::kDouble);
  const auto rows = leaf({3, 8}).detach();
  CHECK(table.add_layer_norm(rows, rows.t().contiguous().t(), weight, bias, 1e-5).sum.equal(rows + rows));
  CHECK(table.add_bias_residual(leaf({1, 8, 3, 3}).detach(), bias, {}).sizes() == at::IntArrayRef{1, 8, 3, 3});
  CHECK(table.upsample_nearest_2x(leaf({1, 8, 3, 3}).detach()).sizes() == at::IntArrayRef{1, 8, 6, 6});
  CHECK(HostDevice::queued == 0);
}

TEST_CASE("Under autocast the CUDA kernels keep the dtype of their argument", "[kernels]") {
  const auto& table = host_table();
  const auto weight = leaf({8}), bias = leaf({8});  // fp32, as in training
  const auto map = leaf({2, 8, 3, 3}, at::kBFloat16, true), rows = leaf({3, 8}, at::kBFloat16);
  const auto results = [&](const at::Tensor& linear_bias) {
    const auto both = table.add_layer_norm(rows, rows, weight, bias, 1e-5);
    return std::vector{table.group_norm_silu(map, {}, weight, bias, 4, 1e-5, true), both.sum, both.normed,
                       table.geglu(rows, linear_bias)};
  };
  HostDevice::queued = 0;
  const auto expected = results(bias.to(at::kBFloat16));  // as autocast narrows it
  const auto queued = std::exchange(HostDevice::queued, 0);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto found = results(bias);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  CHECK(HostDevice::queued == queued);
  CHECK(queued > 0);
  for (std::size_t i = 0; i < found.size(); ++i) {
    CHECK(found[i].scalar_type() == at::kBFloat16);
    CHECK(found[i].equal(expected[i]));
  }
  found[3].to(at::kFloat).sum().backward();
  CHECK(bias.grad().scalar_type() == at::kFloat);
  CHECK(rows.grad().scalar_type() == at::kBFloat16);
}

TEST_CASE("The CUDA kernels refuse to be differentiated twice", "[kernels]") {
  const auto x = leaf({2, 8, 3, 3}, at::kFloat, true), weight = leaf({8}), bias = leaf({8});
  const auto y = host_table().group_norm_silu(x, {}, weight, bias, 4, 1e-5, true).sum();
  CHECK_THROWS_AS(y.backward({}, true, true), ip2p::Error);
}
