#pragma once

/// \file
/// The laws of `OptimiserPolicy`.

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/core/random.hpp"
#include "ip2p/testing/law.hpp"
#include "ip2p/train/optimiser.hpp"

namespace ip2p::testing {

/// Parameters (a matrix, a vector, a convolution kernel and a scalar) with gradients that depend on the update's
/// number.
class OptimiserModel {
 public:
  /// Equal values each time.
  OptimiserModel() {
    std::uint32_t sample = 0;
    for (const auto& shape : shapes()) {
      parameters.push_back(CounterNoise(5, sample++).normal(with_batch(shape), 0)[0].clone().set_requires_grad(true));
    }
  }

  /// Sets the gradients of update `n` on the parameters `which`, and clears all others.
  void backward(std::int64_t n, const std::vector<std::size_t>& which) {
    for (auto& parameter : parameters) parameter.mutable_grad().reset();
    for (const auto i : which) {
      parameters[i].mutable_grad() =
          CounterNoise(6, static_cast<std::uint32_t>(i)).normal(with_batch(parameters[i].sizes().vec()), n)[0].clone();
    }
  }

  /// Copies of the parameters as they are now.
  [[nodiscard]] std::vector<at::Tensor> values() const {
    std::vector<at::Tensor> copies;
    for (const auto& parameter : parameters) copies.push_back(parameter.detach().clone());
    return copies;
  }

  std::vector<at::Tensor> parameters;  ///< Leaves that ask for gradients.

 private:
  static std::vector<std::vector<std::int64_t>> shapes() { return {{4, 3}, {5}, {2, 3, 3, 3}, {}}; }
  static std::vector<std::int64_t> with_batch(std::vector<std::int64_t> shape) {
    shape.insert(shape.begin(), 1);
    return shape;
  }
};

/// All tensors of a state, one list after another.
inline std::vector<at::Tensor> all_tensors(const std::vector<OptimiserState>& kinds) {
  std::vector<at::Tensor> tensors;
  for (const auto& kind : kinds) {
    for (const auto& tensor : kind.tensors) tensors.push_back(tensor);
  }
  return tensors;
}

/// Throws `Error` naming the first law of `OptimiserPolicy` that `Optimiser` breaks with these options.
/// \param others options that each differ from `options` in a way that must change the result
template <class Optimiser>
void check_optimiser(const typename Optimiser::Options& options = {},
                     const std::vector<typename Optimiser::Options>& others = {}) {
  require_optimiser_policy<Optimiser>();
  constexpr auto role = "OptimiserPolicy";
  constexpr double rate = 0.01;
  const std::vector<std::size_t> every{0, 1, 2, 3};
  // The index of the first tensor that differs, or their number; a state may have undefined tensors.
  const auto first_difference = [](const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
    std::size_t i = 0;
    while (i < std::min(a.size(), b.size()) && ((!a[i].defined() && !b[i].defined()) || same_bits(a[i], b[i]))) ++i;
    return i;
  };
  const auto same = [&](const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
    return a.size() == b.size() && first_difference(a, b) == a.size();
  };
  const auto expect_same = [&](const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& expected,
                               std::string_view law, std::string_view what) {
    expect_law(found.size() == expected.size(), role, law, "expected {} of what is called {}, found {}",
               expected.size(), what, found.size());
    const auto i = first_difference(found, expected);
    if (i == found.size()) return;
    expect_law(false, role, law, "{} {}: {}", what, i, difference_text(found[i], expected[i]));
  };

  OptimiserModel model;
  Optimiser optimiser(model.parameters, options);
  const auto kinds = optimiser.state();
  std::set<std::string> seen;
  for (const auto& [name, tensors] : kinds) {
    expect_law(tensors.size() == every.size(), role, "state() has one tensor a parameter, or an undefined one",
               "expected {} of '{}', found {}", every.size(), name, tensors.size());
    expect_law(!name.empty() && name.find('/') == std::string::npos && name != "weights" && name != "average" &&
                   seen.insert(name).second,
               role, "names differ, hold no '/', and are not \"weights\" or \"average\"", "'{}'", name);
  }
  const auto of_none = Optimiser({}, options).state();
  for (std::size_t i = 0; i < std::max(kinds.size(), of_none.size()); ++i) {
    expect_law(i < kinds.size() && i < of_none.size() && kinds[i].name == of_none[i].name, role,
               "state() names the same kinds for any parameters", "expected {}, found {} without parameters",
               i < kinds.size() ? "'" + kinds[i].name + "'" : "no more",
               i < of_none.size() ? "'" + of_none[i].name + "'" : "no more");
  }

  const auto start = model.values();
  model.backward(0, every);
  optimiser.step(rate);
  auto before = model.values();
  expect_law(!same(start, before), role, "a step from gradients changes parameters", "all as they were");
  double along = 0.0;
  for (std::size_t i = 0; i < every.size(); ++i) {
    along += before[i].sub(start[i]).mul(model.parameters[i].grad()).sum().template item<double>();
  }
  expect_law(along < 0.0, role, "a step goes down the gradient", "up by {}", along);
  std::vector<at::Tensor> state_before;
  for (const auto& tensor : all_tensors(kinds)) {
    state_before.push_back(tensor.defined() ? tensor.clone() : tensor);
  }
  optimiser.zero_gradients();
  for (std::size_t i = 0; i < model.parameters.size(); ++i) {
    const auto gradient = model.parameters[i].grad();
    expect_law(!gradient.defined(), role, "after zero_gradients() no parameter has a gradient",
               "parameter {} has one of {}", i, tensor_text(gradient));
  }
  optimiser.step(rate);
  expect_same(model.values(), before, "a parameter without a gradient stays as it is, and so does its state",
              "parameter");
  expect_same(all_tensors(optimiser.state()), state_before,
              "a parameter without a gradient stays as it is, and so does its state", "tensor of the state");

  // Copies weights and state to another model; the tensors in `kinds`, obtained before the first step, must be the live
  // ones.
  OptimiserModel other;
  Optimiser successor(other.parameters, options);
  {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < every.size(); ++i) other.parameters[i].copy_(model.parameters[i]);
    const auto to = all_tensors(successor.state()), from = all_tensors(kinds);
    for (std::size_t i = 0; i < to.size(); ++i) {
      expect_law(to[i].defined() == from[i].defined() && (!to[i].defined() || to[i].sizes() == from[i].sizes()), role,
                 "tensors exist and have their shapes from construction on", "tensor {}: expected {}, found {}", i,
                 tensor_text(from[i]), tensor_text(to[i]));
      if (to[i].defined()) to[i].copy_(from[i]);
    }
  }
  for (std::int64_t n = 1; n < 4; ++n) {
    // In the second of these updates two parameters have no gradient.
    const auto which = n == 2 ? std::vector<std::size_t>{1, 2} : every;
    model.backward(n, which);
    optimiser.step(rate);
    other.backward(n, which);
    successor.step(rate);
  }
  expect_same(other.values(), model.values(),
              "with weights and state copied into another one, both go on with the same bits", "parameter");

  // The same updates with a separate optimiser for each parameter.
  OptimiserModel apart;
  std::deque<Optimiser> own;  // a deque, so that optimisers need not be movable
  for (const auto& parameter : apart.parameters) own.emplace_back(std::vector<at::Tensor>{parameter}, options);
  for (std::int64_t n = 0; n < 4; ++n) {
    apart.backward(n, n == 2 ? std::vector<std::size_t>{1, 2} : every);
    for (auto& one : own) one.step(rate);
  }
  expect_same(model.values(), apart.values(),
              "the update of a parameter depends on its own value, gradient and state and on the rate alone",
              "parameter");

  const auto learnt = [&](const typename Optimiser::Options& chosen, double chosen_rate) {
    OptimiserModel pupil;
    Optimiser learning(pupil.parameters, chosen);
    for (std::int64_t n = 0; n < 3; ++n) {
      pupil.backward(n, every);
      learning.step(chosen_rate);
    }
    return pupil.values();
  };
  const auto as_asked = learnt(options, rate);
  expect_law(!same(as_asked, learnt(options, 2.0 * rate)), role, "the rate is not ignored",
             "twice the rate gives the same weights");
  for (std::size_t i = 0; i < others.size(); ++i) {
    expect_law(!same(as_asked, learnt(others[i], rate)), role, "options are not ignored",
               "the {}-th other options give the same weights", i);
  }
}

}  // namespace ip2p::testing
