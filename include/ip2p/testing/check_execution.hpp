#pragma once

/// \file
/// The laws of `ExecutionPolicy`.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>
#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/random.hpp"
#include "ip2p/execution/concepts.hpp"
#include "ip2p/testing/law.hpp"

namespace ip2p::testing {

/// An evaluation with an input that changes and constant ones of which two share a storage. \param draw of its values
/// \param obstacle why it cannot be recorded; empty: it can
inline Evaluation sample_evaluation(std::int64_t rows, std::int64_t draw, at::Device device,
                                    const std::string& obstacle = {}) {
  CounterNoise noise(3);
  const auto pair = noise.normal({6, 16}, draw / 3).to(device);
  return {.inputs = {noise.normal({rows, 6}, 100 + draw).to(device), pair.narrow(1, 0, 8), pair.narrow(1, 8, 8)},
          .constant = 2,
          .body =
              [](std::span<const at::Tensor> in) {
                const auto product = at::matmul(in[0], in[1]);
                return std::vector<at::Tensor>{product.add(at::matmul(in[0], in[2]).square()), in[0].mul(2.0),
                                               product.gt(0.0)};
              },
          .recordable = [obstacle] { return Recordable{.key = "sample", .obstacle = obstacle}; }};
}

/// Throws `Error` naming the first law of `ExecutionPolicy` that `execution` breaks. \param device of the tensors
template <class Execution>
void check_execution(const Execution& execution, at::Device device = at::kCPU) {
  require_execution_policy<Execution>();
  constexpr auto role = "ExecutionPolicy";
  const at::NoGradGuard no_grad;

  std::vector<std::vector<at::Tensor>> given, expected, found;
  const auto evaluate = [&](const Execution& policy, const Evaluation& evaluation) {
    given.push_back({});
    for (const auto& input : evaluation.inputs) given.back().push_back(input.clone());
    expected.push_back(evaluation.body(evaluation.inputs));
    found.push_back(policy.evaluate(evaluation));
    expect_law(found.back().size() == expected.back().size(), role, "the results are those of the body",
               "{} instead of {}", found.back().size(), expected.back().size());
    for (std::size_t i = 0; i < expected.back().size(); ++i) {
      expect_law(same_bits(found.back()[i], expected.back()[i]), role, "the results are those of the body",
                 "result {} of evaluation {} differs", i, found.size());
    }
    for (std::size_t i = 0; i < evaluation.inputs.size(); ++i) {
      expect_law(same_bits(evaluation.inputs[i], given.back()[i]), role, "inputs are not changed",
                 "input {} of evaluation {} was", i, found.size());
    }
  };

  const Execution copy(execution);
  for (std::int64_t draw = 0; draw < 12; ++draw) {
    evaluate(execution, sample_evaluation(4, draw, device));
    evaluate(draw % 2 == 0 ? execution : copy, sample_evaluation(4 + draw % 3, 50 + draw, device));
    if (draw % 4 == 0) evaluate(execution, sample_evaluation(4, draw, device, "this is a test"));
  }

  for (int i = 0; i < 4; ++i) {
    auto failing = sample_evaluation(9, i, device);
    failing.body = [](std::span<const at::Tensor>) -> std::vector<at::Tensor> { throw_error("a test's error"); };
    failing.recordable = [] { return Recordable{.key = "failing"}; };
    expect_throws([&] { static_cast<void>(execution.evaluate(failing)); }, role,
                  "an exception of the body reaches the caller", "a body that throws");
    evaluate(execution, sample_evaluation(4, 20 + i, device));
  }

  for (std::size_t e = 0; e < found.size(); ++e) {
    for (std::size_t i = 0; i < found[e].size(); ++i) {
      expect_law(same_bits(found[e][i], expected[e][i]), role, "results are not changed by later evaluations",
                 "result {} of evaluation {} was", i, e);
    }
  }
}

}  // namespace ip2p::testing
