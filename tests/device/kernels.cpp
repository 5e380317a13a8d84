// The device's table of fused operators against LibTorch's operators: every entry forward, and those with gradients.

#include "device/check.hpp"

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "support/kernel_cases.hpp"

namespace ip2p::device_check {

namespace {

/// The table under test, or LibTorch's for the reference.
const Kernels& table_of(const Place& place) {
  return place.reference ? libtorch_kernels() : kernels_for(place.device.type());
}

/// Seeded tensors at a place, which ask for gradients.
struct Arguments {
  const Place& place;
  std::vector<at::Tensor> leaves{};

  at::Tensor tensor(std::uint64_t seed, std::vector<std::int64_t> shape, double shift = 0.0) {
    auto made = CounterNoise(seed).normal(shape, 0).add(shift).to(place.device, place.dtype);
    if (shape.size() == 4) made = made.contiguous(at::MemoryFormat::ChannelsLast);
    leaves.push_back(made.set_requires_grad(true));
    return leaves.back();
  }
  /// The parameters of norms stay fp32 where a network trains.
  at::Tensor parameter(std::uint64_t seed, std::int64_t size, double shift) {
    auto made = CounterNoise(seed).normal({1, size}, 0).squeeze(0).mul(0.3).add(shift).to(place.device);
    leaves.push_back(made.set_requires_grad(true));
    return leaves.back();
  }

  /// The results, and the gradients of a sum over them with weights that differ from place to place.
  at::Tensor answer(const std::vector<at::Tensor>& results) const {
    at::Tensor total;
    std::vector<at::Tensor> all;
    for (const auto& result : results) {
      const auto weights = CounterNoise(99).normal(result.sizes(), 0).to(result.device());
      const auto part = result.to(at::kFloat).mul(weights).sum();
      total = total.defined() ? total + part : part;
      all.push_back(result);
    }
    total.backward();
    for (const auto& leaf : leaves) all.push_back(leaf.grad());
    return joined(all);
  }
};

void check(const Settings& settings, Report& report, const std::string& name,
           const std::function<std::vector<at::Tensor>(const Kernels&, Arguments&)>& evaluate) {
  parity(report, settings, name + ", with gradients", [&](const Place& place) {
    const at::AutoGradMode mode(true);
    Arguments arguments{place};
    return arguments.answer(evaluate(table_of(place), arguments));
  });
}

/// All cases that tests of the tables share, many small and odd ones: the worst of each entry.
void shared_cases(const Settings& settings, Report& report) {
  const auto limit_of_case = [&](const testing::KernelCase& one, at::ScalarType dtype) {
    // A GPU's exponential and inverse root err by a unit or two of fp32 more than the C library's.
    return testing::kernel_tolerance(one, dtype) * (settings.device.is_cuda() && dtype == at::kFloat ? 4.0 : 1.0);
  };
  for (const auto dtype : every_dtype) {
    report.attempt(fmt::format("shared cases, {}", dtype_name(dtype)), [&] {
      struct Worst {
        int cases = 0;
        double share = -1.0;  ///< Of its limit.
        testing::KernelCase one;
      };
      std::map<std::string, Worst> entries;
      for (const auto& one : testing::KernelCases(kernels_for(settings.device.type()), settings.device, dtype).run()) {
        auto& worst = entries[one.name.substr(0, one.name.find_first_of(" ,:"))];
        ++worst.cases;
        const double share = one.error / limit_of_case(one, dtype);
        if (share > worst.share) worst = {worst.cases, share, one};
      }
      for (const auto& [entry, worst] : entries) {
        report.compare(
            fmt::format("{}, {}, the worst of {} cases: {}", entry, dtype_name(dtype), worst.cases, worst.one.name),
            worst.one.error, limit_of_case(worst.one, dtype));
      }
    });
  }
}

void kernels(const Settings& settings, Report& report) {
  report.note("table", registered_kernels(settings.device.type()) != nullptr
                           ? "one is registered for this device"
                           : "none is registered for this device: LibTorch's operators serve it");
  shared_cases(settings, report);
  const std::int64_t side = settings.small ? 6 : 32;
  struct Shape {
    std::int64_t rows, channels, height, width, groups;
  };
  // Gradients: the widths of SD1.5's levels, and odd sizes for which vectors do not fit.
  std::vector<Shape> shapes{{2, 320, side, side, 32}, {1, 30, 5, 7, 3}, {3, 36, 1, 9, 4}};
  if (!settings.small)
    shapes.insert(shapes.end(),
                  {{2, 640, 16, 16, 32}, {2, 1280, 8, 8, 32}, {1, 2560, 8, 8, 32}, {1, 128, 256, 256, 32}});
  for (const auto& shape : shapes) {
    const auto text =
        fmt::format("[{},{},{},{}] in {} groups", shape.rows, shape.channels, shape.height, shape.width, shape.groups);
    for (const bool silu : {true, false}) {
      check(settings, report, fmt::format("group_norm_silu of {}{}", text, silu ? "" : ", no silu"),
            [&](const Kernels& table, Arguments& a) {
              const auto x = a.tensor(1, {shape.rows, shape.channels, shape.height, shape.width}, 0.5);
              const auto add = silu ? a.tensor(2, {shape.rows, shape.channels, 1, 1}) : at::Tensor();
              return std::vector{table.group_norm_silu(x, add, a.parameter(3, shape.channels, 1.0),
                                                       a.parameter(4, shape.channels, 0.0), shape.groups, 1e-5, silu)};
            });
    }
  }
  for (const std::int64_t width : {320, 1280, 37}) {
    check(settings, report, fmt::format("geglu of width {}", width), [&](const Kernels& table, Arguments& a) {
      const auto projected = a.tensor(5, {2, side, 2 * width});
      return std::vector{table.geglu(projected, {}), table.geglu(projected, a.parameter(6, 2 * width, 0.0))};
    });
    check(settings, report, fmt::format("add_layer_norm of width {}", width), [&](const Kernels& table, Arguments& a) {
      const auto x = a.tensor(7, {2, side, width}), residual = a.tensor(8, {2, side, width});
      auto result = table.add_layer_norm(x, residual, a.parameter(9, width, 1.0), a.parameter(10, width, 0.0), 1e-5);
      return std::vector{result.sum, result.normed};
    });
  }
}

}  // namespace

std::vector<Part> kernel_steps() { return {{"kernels", false, kernels}}; }

}  // namespace ip2p::device_check
