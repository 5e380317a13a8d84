#include "ip2p/kernels/table.hpp"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "ip2p/core/autograd.hpp"
#include "ip2p/guidance/dual_guidance.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/sampling/ancestral_step.hpp"
#include "ip2p/sampling/denoiser.hpp"
#include "support/catch.hpp"
#include "support/kernel_cases.hpp"

namespace {

void check_all(const char* name, const ip2p::Kernels& table, at::ScalarType dtype) {
  for (const auto& one : ip2p::testing::KernelCases(table, at::kCPU, dtype).run()) {
    // A mean of ten deviations costs our fp32 hardly any precision.
    const bool ours =
        std::string(name) == "CPU" && dtype == at::kFloat && one.name.find("channels-last") != std::string::npos;
    const double limit = std::min(ip2p::testing::kernel_tolerance(one, dtype), ours ? 3e-6 : 1.0);
    INFO(name << ": " << one.name << " in " << c10::toString(dtype));
    CHECK(one.error < limit);
  }
}

}  // namespace

TEST_CASE("Every entry of the tables gives what LibTorch gives in fp64", "[kernels]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    check_all("LibTorch", ip2p::libtorch_kernels(), dtype);
    check_all("CPU", ip2p::cpu_kernels(), dtype);
  }
}

TEST_CASE("The entries of a table carry gradients where a graph is recorded", "[kernels]") {
  const auto gradients = [](const ip2p::Kernels& table) {
    auto random = at::make_generator<at::CPUGeneratorImpl>(3);
    const auto leaf = [&](at::IntArrayRef sizes) { return at::randn(sizes, random).requires_grad_(true); };
    const auto x = leaf({2, 8, 3, 5});
    const auto add = leaf({1, 8, 1, 1});
    const auto weight = leaf({8});
    const auto bias = leaf({8});
    const auto map = x.contiguous(at::MemoryFormat::ChannelsLast);
    const auto y = table.group_norm_silu(map, add, weight, bias, 4, 1e-5, true);
    const auto tokens = table.add_bias_residual(y, bias, map).permute({0, 2, 3, 1}).contiguous();
    const auto [sum, normed] = table.add_layer_norm(tokens, tokens * 2, weight, bias, 1e-5);
    const auto gated = table.geglu(normed, bias);
    const auto queries = tokens.reshape({2, 1, 3, 40}).narrow(3, 0, 16);
    const auto mixed = table.attention(queries, queries, queries, false);
    const auto scalar =
        (table.upsample_nearest_2x(map).sum() + (gated * gated).sum() + (sum * sum).sum() + (mixed * mixed).sum());
    return ip2p::detail::gradients_of(scalar, {x, add, weight, bias});
  };
  const auto expected = gradients(ip2p::libtorch_kernels());
  const auto found = gradients(ip2p::cpu_kernels());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    REQUIRE(found[i].defined());
    CHECK(at::equal(found[i], expected[i]));
    CHECK(found[i].abs().max().item<double>() > 0);
  }
}

TEST_CASE("A guided step is the guidance, the estimate and Euler's step of the library", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(5);
  const ip2p::DualGuidance guidance;
  const double sigma = 3.0;
  const double next = 2.2;
  const double after = 1.0 / std::sqrt(next * next + 1.0);
  const auto [down, up] = ip2p::ancestral_step(sigma, next, 1.0);
  const auto factors = ip2p::VPrediction{}.preconditioning(sigma);
  const auto weights = guidance.weights({});
  ip2p::GuidedStep step;
  step.predictions = at::randn({6, 4, 8, 8}, random);
  step.latents = at::randn({2, 4, 8, 8}, random) * sigma;
  step.noise = at::randn({2, 4, 8, 8}, random);
  std::vector<double> numbers{factors.c_skip, factors.c_out, (down - sigma) / sigma, up, after};
  numbers.insert(numbers.end(), weights.begin(), weights.end());
  step.coefficients = at::tensor(numbers, at::kFloat);
  const auto result = ip2p::kernels_for(at::kCPU).guided_step(step);

  const auto x0 = step.latents * factors.c_skip + guidance.combine(step.predictions, {}) * factors.c_out;
  const auto x = ip2p::euler_step(step.latents, x0, sigma, down) + step.noise * up;
  CHECK((result.estimate - x0).abs().max().item<double>() < 1e-5 * x0.abs().max().item<double>());
  CHECK((result.latents - x).abs().max().item<double>() < 1e-5 * x.abs().max().item<double>());
  CHECK((result.input - x * after).abs().max().item<double>() < 1e-5 * x.abs().max().item<double>());
}

TEST_CASE("A guided step refuses arguments that do not fit each other", "[kernels]") {
  const auto with = [](auto change) {
    ip2p::GuidedStep step;
    step.predictions = at::randn({6, 4, 8, 8});
    step.latents = at::randn({2, 4, 8, 8});
    step.coefficients = at::ones({8});
    change(step);
    return ip2p::kernels_for(at::kCPU).guided_step(step);
  };
  CHECK_NOTHROW(with([](ip2p::GuidedStep&) {}));
  CHECK_THROWS_WITH(with([](auto& step) { step.latents = at::Tensor(); }),
                    Contains("latents: expected [B,C,h,w] with B > 0, found no tensor"));
  CHECK_THROWS_WITH(with([](auto& step) {
                      step.predictions = at::randn({5, 4, 8, 8});
                    }),
                    Contains("predictions: expected a multiple of the rows of [2, 4, 8, 8]"));
  CHECK_THROWS_WITH(with([](auto& step) {
                      step.noise = at::randn({1, 4, 8, 8});
                    }),
                    Contains("noise: expected [2, 4, 8, 8]"));
  CHECK_THROWS_WITH(with([](auto& step) { step.inputs = 0; }), Contains("inputs: expected at least 1, found 0"));
  CHECK_THROWS_WITH(with([](auto& step) {
                      step.images = at::randn({1, 4, 8, 8});
                    }),
                    Contains("images: expected [2,I,8,8]"));
  CHECK_THROWS_WITH(with([](auto& step) { step.coefficients = at::ones({7}); }),
                    Contains("coefficients: expected [8] of Float, found [7] of Float"));
}

TEST_CASE("A registered table serves every thread until it is withdrawn", "[kernels]") {
  static int calls = 0;
  static const ip2p::Kernels counting = [] {
    auto entries = ip2p::libtorch_kernels();
    entries.upsample_nearest_2x = [](const at::Tensor& x) {
      ++calls;
      return ip2p::libtorch_kernels().upsample_nearest_2x(x);
    };
    return entries;
  }();
  const auto x = at::randn({1, 2, 3, 3});
  CHECK(&ip2p::kernels_for(x) == &ip2p::cpu_kernels());
  CHECK(&ip2p::kernels_for(at::kMeta) == &ip2p::libtorch_kernels());
  CHECK(ip2p::register_kernels(at::kCPU, &counting) == nullptr);
  std::jthread([&] { (void)ip2p::kernels_for(x).upsample_nearest_2x(x); }).join();
  CHECK(ip2p::register_kernels(at::kCPU, nullptr) == &counting);
  (void)ip2p::kernels_for(x).upsample_nearest_2x(x);
  CHECK(calls == 1);
}
