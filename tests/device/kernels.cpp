// Every entry of the device's table of fused operators against LibTorch's operators, forward and backward.

#include "device/check.hpp"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <string>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/kernels/for_device.hpp"

namespace ip2p::device_check {

namespace {

/// The table under test, or LibTorch's for the reference.
const Kernels& table_of(const Place& place) {
  return place.reference ? libtorch_kernels() : kernels_for(place.device.type());
}

/// Seeded tensors at a place, which ask for gradients where these are checked.
struct Arguments {
  const Place& place;
  bool gradients;
  std::vector<at::Tensor> leaves{};

  at::Tensor tensor(std::uint64_t seed, std::vector<std::int64_t> shape, double shift = 0.0) {
    auto made = CounterNoise(seed).normal(shape, 0).add(shift).to(place.device, place.dtype);
    if (shape.size() == 4) made = made.contiguous(at::MemoryFormat::ChannelsLast);
    leaves.push_back(made.set_requires_grad(gradients));
    return leaves.back();
  }
  /// The parameters of norms stay fp32 where a network trains.
  at::Tensor parameter(std::uint64_t seed, std::int64_t size, double shift) {
    auto made = CounterNoise(seed).normal({1, size}, 0).squeeze(0).mul(0.3).add(shift).to(place.device);
    leaves.push_back(made.set_requires_grad(gradients));
    return leaves.back();
  }

  /// `result`, or the gradients of a sum over it with weights that differ from place to place.
  at::Tensor answer(const std::vector<at::Tensor>& results) const {
    if (!gradients) return joined(results);
    at::Tensor total;
    for (const auto& result : results) {
      const auto weights = CounterNoise(99).normal(result.sizes(), 0).to(result.device());
      const auto part = result.to(at::kFloat).mul(weights).sum();
      total = total.defined() ? total + part : part;
    }
    total.backward();
    std::vector<at::Tensor> all;
    for (const auto& leaf : leaves) all.push_back(leaf.grad());
    return joined(all);
  }
};

void check(const Settings& settings, Report& report, const std::string& name, bool gradients,
           const std::function<std::vector<at::Tensor>(const Kernels&, Arguments&)>& evaluate) {
  parity(report, settings, name + (gradients ? ", gradients" : ""), [&](const Place& place) {
    const at::AutoGradMode mode(gradients);
    Arguments arguments{place, gradients};
    return arguments.answer(evaluate(table_of(place), arguments));
  });
}

void kernels(const Settings& settings, Report& report) {
  report.note("table", registered_kernels(settings.device.type()) != nullptr
                           ? "one is registered for this device"
                           : "none is registered for this device: LibTorch's operators serve it");
  const std::int64_t side = settings.small ? 6 : 32;
  struct Shape {
    std::int64_t rows, channels, height, width, groups;
  };
  // The widths of SD1.5's levels, and odd sizes for which vectors do not fit.
  std::vector<Shape> shapes{{2, 320, side, side, 32}, {1, 30, 5, 7, 3}, {3, 36, 1, 9, 4}};
  if (!settings.small)
    shapes.insert(shapes.end(),
                  {{2, 640, 16, 16, 32}, {2, 1280, 8, 8, 32}, {1, 2560, 8, 8, 32}, {1, 128, 256, 256, 32}});
  for (const auto& shape : shapes) {
    const auto text =
        fmt::format("[{},{},{},{}] in {} groups", shape.rows, shape.channels, shape.height, shape.width, shape.groups);
    for (const bool gradients : {false, true}) {
      for (const bool silu : {true, false}) {
        check(
            settings, report, fmt::format("group_norm_silu of {}{}", text, silu ? "" : ", no silu"), gradients,
            [&](const Kernels& table, Arguments& a) {
              const auto x = a.tensor(1, {shape.rows, shape.channels, shape.height, shape.width}, 0.5);
              const auto add = silu ? a.tensor(2, {shape.rows, shape.channels, 1, 1}) : at::Tensor();
              return std::vector{table.group_norm_silu(x, add, a.parameter(3, shape.channels, 1.0),
                                                       a.parameter(4, shape.channels, 0.0), shape.groups, 1e-5, silu)};
            });
      }
    }
    check(settings, report, "add_bias_residual of " + text, false, [&](const Kernels& table, Arguments& a) {
      const std::vector<std::int64_t> sizes{shape.rows, shape.channels, shape.height, shape.width};
      const auto x = a.tensor(1, sizes), residual = a.tensor(2, sizes), bias = a.parameter(3, shape.channels, 0.0);
      return std::vector{table.add_bias_residual(x, bias, residual), table.add_bias_residual(x, {}, residual)};
    });
    check(settings, report, "upsample_nearest_2x of " + text, false, [&](const Kernels& table, Arguments& a) {
      return std::vector{
          table.upsample_nearest_2x(a.tensor(1, {shape.rows, shape.channels, shape.height, shape.width}))};
    });
  }
  for (const std::int64_t width : {320, 1280, 37}) {
    for (const bool gradients : {false, true}) {
      check(settings, report, fmt::format("geglu of width {}", width), gradients,
            [&](const Kernels& table, Arguments& a) {
              const auto projected = a.tensor(5, {2, side, 2 * width});
              return std::vector{table.geglu(projected, {}), table.geglu(projected, a.parameter(6, 2 * width, 0.0))};
            });
      check(settings, report, fmt::format("add_layer_norm of width {}", width), gradients,
            [&](const Kernels& table, Arguments& a) {
              const auto x = a.tensor(7, {2, side, width}), residual = a.tensor(8, {2, side, width});
              auto result =
                  table.add_layer_norm(x, residual, a.parameter(9, width, 1.0), a.parameter(10, width, 0.0), 1e-5);
              return std::vector{result.sum, result.normed};
            });
    }
  }
  for (const std::int64_t rows : {1, 2}) {
    check(settings, report, fmt::format("guided_step of {} samples, three branches", rows), false,
          [&](const Kernels& table, Arguments& a) {
            const auto& place = a.place;
            const auto fp32 = [&](std::uint64_t seed, std::vector<std::int64_t> shape) {
              return CounterNoise(seed).normal(shape, 0).to(place.device);
            };
            GuidedStep step;
            step.predictions = a.tensor(11, {3 * rows, 4, side, side});
            step.latents = fp32(12, {rows, 4, side, side});
            step.noise = fp32(13, {rows, 4, side, side});
            step.images = a.tensor(14, {2 * rows, 4, side, side});
            step.coefficients = at::tensor({1.0F, -2.5F, -0.2F, 0.4F, 0.6F, 7.5F, -6.0F, -0.5F}).to(place.device);
            step.inputs = 2;
            const auto result = table.guided_step(step);
            return std::vector{result.latents, result.estimate, result.input};
          });
  }
}

}  // namespace

std::vector<Part> kernel_steps() { return {{"kernels", false, kernels}}; }

}  // namespace ip2p::device_check
