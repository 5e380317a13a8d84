#pragma once

// What a table of fused operators computes, against LibTorch's operators in fp64: every entry, odd sizes, all memory
// formats, empty tensors. For tables of any device.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/tril.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p::testing {

/// One case of one entry.
struct KernelCase {
  std::string name;
  double error;  ///< Largest difference over the largest number of the reference; infinite for a wrong shape or dtype.
};

/// Largest error that passes, by dtype: a few roundings of the result's format. Where the mean is ten deviations,
/// statistics lose precision, in fp32 and by rounding the sum.
inline double kernel_tolerance(const KernelCase& one, at::ScalarType dtype) {
  const bool far = one.name.find("[2, 32, 6, 5]") != std::string::npos;
  const double rounding = dtype == at::kFloat ? 1e-6 : dtype == at::kHalf ? 2e-3 : 1.6e-2;
  return rounding * (!far ? 1.0 : dtype == at::kFloat ? 40.0 : 2.0);
}

/// Runs all cases of a table on a device in one dtype.
class KernelCases {
 public:
  KernelCases(const Kernels& table, at::Device device, at::ScalarType dtype)
      : table_(table), device_(device), dtype_(dtype), random_(at::make_generator<at::CPUGeneratorImpl>(11)) {}

  std::vector<KernelCase> run() {
    const at::NoGradGuard no_grad;
    found_.clear();
    attempt("group_norm_silu", &KernelCases::group_norms);
    attempt("geglu", &KernelCases::geglus);
    attempt("add_layer_norm", &KernelCases::layer_norms);
    attempt("add_bias_residual", &KernelCases::residuals);
    attempt("guided_step", &KernelCases::steps);
    attempt("upsample_nearest_2x", &KernelCases::enlargements);
    attempt("attention", &KernelCases::attentions);
    return std::move(found_);
  }

 private:
  /// The cases of one entry; what they throw is a case that failed, and the next entry has its turn.
  void attempt(const char* entry, void (KernelCases::*cases)()) {
    try {
      (this->*cases)();
    } catch (const std::exception& problem) {
      const std::string what = problem.what();
      found_.push_back(
          {fmt::format("{}: {}", entry, what.substr(0, what.find('\n'))), std::numeric_limits<double>::infinity()});
    }
  }

  /// Normal numbers as the table's device and dtype hold them.
  at::Tensor normal(at::IntArrayRef sizes, double mean = 0.0, double deviation = 1.0) {
    return (at::randn(sizes, random_) * deviation + mean).to(device_, dtype_);
  }

  static at::Tensor wide(const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); }

  void compare(std::string name, const at::Tensor& result, const at::Tensor& reference, at::ScalarType dtype) {
    double error = std::numeric_limits<double>::infinity();
    if (result.sizes() == reference.sizes() && result.scalar_type() == dtype && result.device() == device_) {
      const bool empty = reference.numel() == 0;
      error = empty ? 0.0
                    : (wide(result) - reference).abs().max().item<double>() /
                          std::max(reference.abs().max().item<double>(), 1e-3);
      if (error != error) error = std::numeric_limits<double>::infinity();
    }
    found_.push_back({std::move(name), error});
  }

  void compare(std::string name, const at::Tensor& result, const at::Tensor& reference) {
    compare(std::move(name), result, reference, dtype_);
  }

  /// The same numbers as x in several orders in memory.
  static std::vector<std::pair<std::string, at::Tensor>> layouts(const at::Tensor& x) {
    return {
        {"channels-last", x.contiguous(at::MemoryFormat::ChannelsLast)},
        {"NCHW", x.contiguous()},
        {"gaps", at::cat({x, x}, 3).contiguous(at::MemoryFormat::ChannelsLast).narrow(3, 0, x.size(3))},
        {"slice of channels", at::cat({x, x}, 1).contiguous(at::MemoryFormat::ChannelsLast).narrow(1, 0, x.size(1))}};
  }

  void group_norms() {
    struct Shape {
      std::int64_t batch, channels, height, width, groups;
      double mean = 0.0, deviation = 1.0;
    };
    for (const auto& s : {Shape{1, 32, 5, 7, 8}, Shape{3, 40, 9, 6, 8}, Shape{2, 36, 1, 1, 4}, Shape{3, 64, 33, 17, 32},
                          Shape{2, 6, 5, 3, 3}, Shape{1, 17, 40, 31, 1}, Shape{1, 8, 3, 3, 8}, Shape{0, 32, 4, 4, 8},
                          Shape{2, 32, 6, 5, 8, 20.0, 2.0}, Shape{2, 320, 16, 16, 32}, Shape{1, 2560, 2, 2, 32},
                          Shape{1, 16, 7, 9, 4, 0.0, 1e-4}}) {
      const auto all = normal({s.batch, s.channels, s.height, s.width}, s.mean, s.deviation);
      const auto weight = normal({s.channels}, 1.0);
      const auto bias = normal({s.channels});
      const std::array adds{at::Tensor(), normal({s.batch, s.channels, 1, 1}), normal({1, s.channels, 1, 1})};
      for (const auto& [layout, x] : layouts(all)) {
        for (std::size_t i = 0; i < adds.size(); ++i) {
          for (const bool silu : {false, true}) {
            const auto& add = adds[i];
            auto reference =
                at::group_norm(add.defined() ? wide(x) + wide(add) : wide(x), s.groups, wide(weight), wide(bias), 1e-5);
            if (silu) reference = at::silu(reference);
            const auto y = table_.group_norm_silu(x, add, weight, bias, s.groups, 1e-5, silu);
            compare(fmt::format("group_norm_silu {} in {} groups, {}, add {}, silu {}", shape_text(x.sizes()), s.groups,
                                layout, i, silu),
                    y, reference);
            if (layout == "channels-last" && y.numel() > 0 && !y.is_contiguous(at::MemoryFormat::ChannelsLast)) {
              found_.push_back(
                  {fmt::format("group_norm_silu {}: memory format of the result", shape_text(x.sizes())), 1.0});
            }
          }
        }
        const auto y = table_.group_norm_silu(x, {}, weight.to(at::kFloat), bias.to(at::kFloat), s.groups, 1e-5, false);
        compare(fmt::format("group_norm_silu {}, {}, fp32 weights", shape_text(x.sizes()), layout), y,
                at::group_norm(wide(x), s.groups, wide(weight), wide(bias), 1e-5));
      }
    }
  }

  void geglus() {
    for (const std::vector<std::int64_t>& sizes : std::vector<std::vector<std::int64_t>>{
             {7, 26}, {3, 5, 128}, {1000, 200}, {0, 16}, {34}, {1, 2}, {2, 3, 4, 6}}) {
      const auto projected = normal(sizes, 0.0, 2.0);
      for (const bool with_bias : {false, true}) {
        const auto bias = with_bias ? normal({sizes.back()}) : at::Tensor();
        const auto halves = (with_bias ? wide(projected) + wide(bias) : wide(projected)).chunk(2, -1);
        const auto reference = halves[0] * at::gelu(halves[1]);
        const auto name = fmt::format("geglu {}, bias {}", shape_text(sizes), with_bias);
        compare(name, table_.geglu(projected, bias), reference);
        if (sizes.size() > 1) {
          const auto turned = projected.transpose(0, 1).contiguous().transpose(0, 1);
          compare(name + ", transposed", table_.geglu(turned, bias), reference);
          compare(name + ", rows with gaps",
                  table_.geglu(at::cat({projected, projected}, -1).narrow(-1, 0, sizes.back()), bias), reference);
        }
      }
    }
    const auto gates =
        at::cat({at::ones({1, 8}), at::tensor({-1e4, -20.0, -5.0, -0.0, 1e-6, 5.0, 20.0, 1e4}).view({1, 8})}, 1);
    const auto given = gates.to(device_, dtype_);
    compare("geglu of extreme gates", table_.geglu(given, {}), at::gelu(wide(given).narrow(1, 8, 8)));
  }

  void layer_norms() {
    for (const std::vector<std::int64_t>& sizes :
         std::vector<std::vector<std::int64_t>>{{7, 13}, {3, 5, 320}, {2, 77, 40}, {0, 16}, {9}, {600, 64}, {2, 1}}) {
      const auto x = normal(sizes, 3.0);
      const auto residual = normal(sizes, 0.0, 2.0);
      const auto weight = normal({sizes.back()}, 1.0);
      const auto bias = normal({sizes.back()});
      const auto name = fmt::format("add_layer_norm {}", shape_text(sizes));
      const auto check = [&](const std::string& layout, const at::Tensor& a, const at::Tensor& b,
                             const at::Tensor& scale, const at::Tensor& shift) {
        const auto [sum, normed] = table_.add_layer_norm(a, b, scale, shift, 1e-5);
        compare(name + layout + ", sum", sum, wide(a) + wide(b));
        compare(name + layout, normed, at::layer_norm(wide(sum), scale.sizes(), wide(scale), wide(shift), 1e-5));
      };
      check("", x, residual, weight, bias);
      check(", fp32 weights", x, residual, weight.to(at::kFloat), bias.to(at::kFloat));
      if (sizes.size() > 1) {
        check(", transposed", x.transpose(0, 1).contiguous().transpose(0, 1), residual, weight, bias);
        check(", rows with gaps", x, at::cat({residual, residual}, -1).narrow(-1, 0, sizes.back()), weight, bias);
      }
    }
  }

  void residuals() {
    for (const std::vector<std::int64_t>& sizes :
         std::vector<std::vector<std::int64_t>>{{1, 5, 3, 7}, {3, 32, 8, 8}, {2, 7, 1, 1}, {0, 8, 2, 2}}) {
      const auto bias = normal({sizes[1]});
      const auto residual = normal(sizes).contiguous(at::MemoryFormat::ChannelsLast);
      for (const auto& [layout, x] : layouts(normal(sizes))) {
        const auto name = fmt::format("add_bias_residual {}, {}", shape_text(sizes), layout);
        const auto wide_bias = wide(bias).view({1, -1, 1, 1});
        compare(name, table_.add_bias_residual(x, bias, residual), wide(x) + wide_bias + wide(residual));
        compare(name + ", no bias", table_.add_bias_residual(x, {}, residual), wide(x) + wide(residual));
        compare(name + ", no residual", table_.add_bias_residual(x, bias, {}), wide(x) + wide_bias);
        const auto same = table_.add_bias_residual(x, {}, {});
        compare(name + ", nothing", same, wide(x));
        if (x.numel() > 0 && same.const_data_ptr() == x.const_data_ptr()) {
          found_.push_back({"add_bias_residual: result is its argument", 1.0});
        }
      }
    }
  }

  void steps() {
    for (const std::int64_t branches : {1, 2, 3}) {
      for (const std::int64_t batch : {1, 3}) {
        for (const auto x_dtype : {at::kFloat, dtype_}) {
          GuidedStep step;
          step.inputs = branches == 3 ? 2 : 1;
          step.predictions = normal({branches * batch, 4, 5, 7}).contiguous(at::MemoryFormat::ChannelsLast);
          step.latents = normal({batch, 4, 5, 7}, 0.0, 8.0).to(x_dtype);
          if (branches != 2) step.noise = normal({batch, 4, 5, 7}).to(x_dtype);
          if (batch == 3) step.images = normal({step.inputs * batch, 3, 5, 7});
          std::vector<float> numbers{0.75F, -7.5F, -0.25F, 0.5F, 0.125F, 2.0F, -1.5F, 0.5F};
          numbers.resize(static_cast<std::size_t>(GuidedStep::weights + branches));
          step.coefficients = at::tensor(numbers).to(device_);
          auto guided = at::Tensor();
          for (std::int64_t k = 0; k < branches; ++k) {
            const auto one = wide(step.predictions).narrow(0, k * batch, batch) *
                             numbers[static_cast<std::size_t>(GuidedStep::weights + k)];
            guided = k == 0 ? one : guided + one;
          }
          const auto x = wide(step.latents);
          const auto x0 = 0.75 * x - 7.5 * guided;
          auto next = x - 0.25 * (x - x0);
          if (step.noise.defined()) next = next + 0.5 * wide(step.noise);
          auto input = step.inputs == 2 ? at::cat({0.125 * next, 0.125 * next}, 0) : 0.125 * next;
          if (step.images.defined()) input = at::cat({input, wide(step.images)}, 1);
          const auto result = table_.guided_step(step);
          const auto name =
              fmt::format("guided_step, {} branches, batch {}, {}", branches, batch, c10::toString(x_dtype));
          compare(name + ", estimate", result.estimate, x0, x_dtype);
          compare(name + ", latents", result.latents, next, x_dtype);
          compare(name + ", input", result.input, input);
          if (!result.input.is_contiguous(at::MemoryFormat::ChannelsLast)) {
            found_.push_back({"guided_step: memory format of the input", 1.0});
          }
        }
      }
    }
  }

  void enlargements() {
    for (const std::vector<std::int64_t>& sizes :
         std::vector<std::vector<std::int64_t>>{{1, 5, 3, 7}, {3, 32, 4, 4}, {2, 8, 1, 1}}) {
      for (const auto& [layout, x] : layouts(normal(sizes))) {
        const auto reference = wide(x)
                                   .unsqueeze(3)
                                   .unsqueeze(5)
                                   .expand({-1, -1, -1, 2, -1, 2})
                                   .reshape({sizes[0], sizes[1], 2 * sizes[2], 2 * sizes[3]});
        compare(fmt::format("upsample_nearest_2x {}, {}", shape_text(sizes), layout), table_.upsample_nearest_2x(x),
                reference);
      }
    }
  }

  void attentions() {
    struct Shape {
      std::int64_t batch, heads, queries, keys, depth, width;
    };
    for (const auto& s : {Shape{2, 3, 33, 77, 40, 40}, Shape{1, 2, 1, 1, 64, 64}, Shape{3, 1, 200, 200, 16, 24},
                          Shape{0, 2, 4, 4, 8, 8}}) {
      const auto heads = [&](std::int64_t tokens, std::int64_t size) {
        return normal({s.batch, tokens, s.heads * size}).unflatten(-1, {s.heads, size}).transpose(1, 2);
      };
      const auto q = heads(s.queries, s.depth), k = heads(s.keys, s.depth), v = heads(s.keys, s.width);
      const auto map =
          at::softmax(at::matmul(wide(q), wide(k).transpose(2, 3)) / std::sqrt(static_cast<double>(s.depth)), -1);
      compare(fmt::format("attention {} to {}", shape_text(q.sizes()), shape_text(v.sizes())),
              table_.attention(q, k, v, false), at::matmul(map, wide(v)));
      if (s.queries != s.keys) continue;
      const auto seen = at::tril(map);
      compare(fmt::format("attention, causal, {} to {}", shape_text(q.sizes()), shape_text(v.sizes())),
              table_.attention(q, k, v, true), at::matmul(seen / seen.sum({-1}, true), wide(v)));
    }
  }

  const Kernels& table_;
  at::Device device_;
  at::ScalarType dtype_;
  at::Generator random_;
  std::vector<KernelCase> found_;
};

}  // namespace ip2p::testing
