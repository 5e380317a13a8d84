#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ip2p/kernels/arithmetic.hpp"
#include "ip2p/kernels/cpu/fused.hpp"
#include "ip2p/kernels/cpu/levels.hpp"
#include "ip2p/kernels/cpu/threads.hpp"
#include "support/catch.hpp"
#include "support/cpu_levels.hpp"

namespace {

namespace cpu = ip2p::detail::cpu;

/// The passes of every level that this processor runs, whatever level was chosen.
template <class Element>
std::vector<std::pair<std::string, cpu::Passes<Element>>> runnable() {
  std::vector<std::pair<std::string, cpu::Passes<Element>>> all;
  for (const auto& [name, level] : ip2p::testing::cpu_levels()) all.emplace_back(name, cpu::passes_at<Element>(level));
  return all;
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace

TEST_CASE("silu and gelu of every level are those of fp64", "[kernels]") {
  const std::int64_t count = 100'003;  // a tail at every level
  const auto x = at::linspace(-30.0, 30.0, count, at::kFloat);
  const auto one = at::ones({count});
  const auto zero = at::zeros({count});
  auto y = at::zeros({count});
  const auto wide = x.to(at::kDouble);
  const auto silu = wide * at::sigmoid(wide);
  const auto projected = at::cat({one, x}, 0);
  for (const auto& [level, passes] : runnable<float>()) {
    INFO(level);
    passes.normalise(x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), 1, count, one.const_data_ptr<float>(),
                     zero.const_data_ptr<float>(), true);
    CHECK(((y.to(at::kDouble) - silu).abs() / silu.abs().clamp_min(1e-9)).max().item<double>() < 1e-6);
    passes.geglu(projected.const_data_ptr<float>(), y.mutable_data_ptr<float>(), 1, count, nullptr);
    CHECK(((y.to(at::kDouble) - at::gelu(wide)).abs() / wide.abs().clamp_min(1.0)).max().item<double>() < 4e-7);
  }
}

TEST_CASE("Numbers that are not finite stay so at every level", "[kernels]") {
  const std::int64_t count = 20;
  const auto one = at::ones({count});
  const auto zero = at::zeros({count});
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    const auto x = at::full({count}, bad);
    auto y = at::zeros({count});
    for (const auto& [level, passes] : runnable<float>()) {
      INFO(level << " " << bad);
      passes.normalise(x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), 1, count, one.const_data_ptr<float>(),
                       zero.const_data_ptr<float>(), false);
      CHECK(!at::isfinite(y).any().item<bool>());
      if (bad > 0 || bad != bad) {
        passes.normalise(x.const_data_ptr<float>(), y.mutable_data_ptr<float>(), 1, count, one.const_data_ptr<float>(),
                         zero.const_data_ptr<float>(), true);
        CHECK(!at::isfinite(y).any().item<bool>());
      }
    }
    const auto narrow = x.to(at::kBFloat16);
    auto rounded = at::zeros({count}, at::kBFloat16);
    for (const auto& [level, passes] : runnable<cpu::Bf16>()) {
      INFO(level << " bf16 " << bad);
      passes.normalise(cpu::elements<cpu::Bf16>(narrow), cpu::mutable_elements<cpu::Bf16>(rounded), 1, count,
                       one.const_data_ptr<float>(), zero.const_data_ptr<float>(), false);
      CHECK(!at::isfinite(rounded).any().item<bool>());
    }
  }
}

TEST_CASE("bf16 is rounded to the nearest as by LibTorch at every level", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(2);
  const std::int64_t count = 4099;
  const auto x = at::randn({count}, random).to(at::kBFloat16);
  const auto scale = at::randn({count}, random);
  const auto zero = at::zeros({count});
  const auto expected = (x.to(at::kFloat) * scale).to(at::kBFloat16);
  for (const auto& [level, passes] : runnable<cpu::Bf16>()) {
    INFO(level);
    auto y = at::zeros({count}, at::kBFloat16);
    passes.normalise(cpu::elements<cpu::Bf16>(x), cpu::mutable_elements<cpu::Bf16>(y), 1, count,
                     scale.const_data_ptr<float>(), zero.const_data_ptr<float>(), false);
    CHECK(at::equal(y, expected));
  }
}

TEST_CASE("Sums of channels and layer norms of every level agree", "[kernels]") {
  auto random = at::make_generator<at::CPUGeneratorImpl>(4);
  for (const std::int64_t channels : {1, 15, 16, 37, 320}) {
    const std::int64_t rows = 23;
    const auto x = at::randn({rows, channels}, random) + 5;
    const auto residual = at::randn({rows, channels}, random);
    const auto shift = x.select(0, 0).contiguous();
    const auto weight = at::randn({channels}, random);
    const auto bias = at::randn({channels}, random);
    const auto deviation = (x - shift).to(at::kDouble);
    const auto total = (x + residual).to(at::kDouble);
    const auto normed = at::layer_norm(total, {channels}, weight.to(at::kDouble), bias.to(at::kDouble), 1e-5);
    for (const auto& [level, passes] : runnable<float>()) {
      INFO(level << ", " << channels << " channels");
      auto sums = at::zeros({channels});
      auto squares = at::zeros({channels});
      passes.channel_sums(x.const_data_ptr<float>(), rows, channels, shift.const_data_ptr<float>(),
                          sums.mutable_data_ptr<float>(), squares.mutable_data_ptr<float>());
      CHECK(difference(sums, deviation.sum(0)) < 2e-5);
      CHECK(difference(squares, (deviation * deviation).sum(0)) < 1e-4);
      auto sum = at::zeros({rows, channels});
      auto y = at::zeros({rows, channels});
      passes.add_layer_norm(x.const_data_ptr<float>(), residual.const_data_ptr<float>(), sum.mutable_data_ptr<float>(),
                            y.mutable_data_ptr<float>(), rows, channels, weight.const_data_ptr<float>(),
                            bias.const_data_ptr<float>(), 1e-5F);
      CHECK(difference(sum, total) < 2e-6);
      CHECK(difference(y, normed) < 5e-6);
    }
  }
}

TEST_CASE("The level of the vector code is the one that LibTorch chose", "[kernels]") {
  using ip2p::detail::CpuLevel;
  const auto level = ip2p::detail::cpu_level();
  CHECK(ip2p::detail::at_cpu_level(ip2p::detail::cpu_level(), 0, 1, 2) == static_cast<int>(level));
  const char* wanted = std::getenv("ATEN_CPU_CAPABILITY");
  if (wanted == nullptr) return;
  const std::string name = wanted;
  CHECK(level == (name == "default" ? CpuLevel::baseline : name == "avx2" ? CpuLevel::avx2 : CpuLevel::avx512));
}

TEST_CASE("Threads change no bit of a fused operator", "[kernels]") {
  const at::NoGradGuard no_grad;
  auto random = at::make_generator<at::CPUGeneratorImpl>(6);
  const auto x = at::randn({3, 64, 40, 36}, random).contiguous(at::MemoryFormat::ChannelsLast);
  const auto rows = at::randn({2000, 128}, random);
  const auto weight = at::randn({64}, random);
  const auto bias = at::randn({64}, random);
  const auto wide = at::randn({128}, random);
  const auto all = [&] {
    return std::vector<at::Tensor>{cpu::group_norm_silu(x, {}, weight, bias, 32, 1e-5, true), cpu::geglu(rows, wide),
                                   cpu::add_layer_norm(rows, rows, wide, wide, 1e-5).normed};
  };
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto alone = all();
  at::set_num_threads(3);
  const auto shared = all();
  at::set_num_threads(before);
  for (std::size_t i = 0; i < alone.size(); ++i) CHECK(at::equal(alone[i], shared[i]));
}

TEST_CASE("in_threads gives each task to one thread and passes on what a task throws", "[kernels]") {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  for (const std::int64_t tasks : {0, 1, 2, 3, 7, 100}) {
    for (const std::int64_t at_least : {0, 1, 5, 1000}) {
      std::vector<std::atomic<int>> times(static_cast<std::size_t>(tasks));
      std::atomic<int> parts = 0;
      ip2p::detail::in_threads(tasks, at_least, [&](std::int64_t first, std::int64_t last) {
        ++parts;
        for (auto i = first; i < last; ++i) ++times[static_cast<std::size_t>(i)];
      });
      for (const auto& count : times) CHECK(count == 1);
      CHECK(parts <= 3);
      if (tasks == 100 && at_least == 1) CHECK(parts == 3);
    }
  }
  CHECK_THROWS_WITH(ip2p::detail::in_threads(10, 1,
                                             [](std::int64_t, std::int64_t last) {
                                               if (last == 10) throw std::runtime_error("a task failed");
                                             }),
                    Contains("a task failed"));
  at::set_num_threads(before);
}

TEST_CASE("Moments are combined as in one pass, and a norm is a scale and a shift", "[kernels]") {
  namespace arithmetic = ip2p::arithmetic;
  arithmetic::Moments all;
  arithmetic::Moments first;
  arithmetic::Moments second;
  float sum = 0.0F;
  float squares = 0.0F;
  for (int i = 0; i < 100; ++i) {
    const float x = 50.0F + static_cast<float>(i * 37 % 101) / 10.0F;
    all = arithmetic::with(all, x);
    (i < 30 ? first : second) = arithmetic::with(i < 30 ? first : second, x);
    sum += x - 50.0F;
    squares += (x - 50.0F) * (x - 50.0F);
  }
  for (const auto& other : {arithmetic::together(first, second), arithmetic::shifted(100.0F, 50.0F, sum, squares),
                            arithmetic::together({}, all), arithmetic::together(all, {})}) {
    CHECK(other.count == 100.0F);
    CHECK(other.mean == Approx(all.mean).epsilon(1e-6));
    CHECK(other.m2 == Approx(all.m2).epsilon(1e-5));
  }
  CHECK(arithmetic::inverse_deviation(all, 0.0F) == Approx(1.0F / std::sqrt(all.m2 / 100.0F)).epsilon(1e-6));
  const auto affine = arithmetic::normalisation(2.0F, 0.5F, 1.0F, 3.0F, 4.0F);
  CHECK(7.0F * affine.scale + affine.shift == Approx(((7.0F + 1.0F) - 2.0F) * 0.5F * 3.0F + 4.0F));
}

TEST_CASE("Scalar arithmetic gives the slopes of silu and gelu", "[kernels]") {
  namespace arithmetic = ip2p::arithmetic;
  for (float x = -6.0F; x <= 6.0F; x += 0.37F) {
    const auto slope = [&](auto f) { return (f(x + 0.01F) - f(x - 0.01F)) / 0.02F; };
    CHECK(arithmetic::silu_slope(x) == Approx(slope(arithmetic::silu)).margin(1e-4));
    CHECK(arithmetic::gelu_slope(x) == Approx(slope(arithmetic::gelu)).margin(1e-4));
  }
  const auto step = arithmetic::euler(2.0F, 3.0F, 0.5F, {0.5F, -1.0F, -0.25F, 2.0F, 0.1F});
  CHECK(step.estimate == Approx(-2.0F));
  CHECK(step.next == Approx(2.0F - 0.25F * 4.0F + 1.0F));
  CHECK(step.input == Approx(0.2F));
}
