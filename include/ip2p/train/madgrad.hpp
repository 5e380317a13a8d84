#pragma once

/// \file
/// MADGRAD: dual averaging with the cube root of squared gradients.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_addcdiv.h>
#include <ATen/ops/_foreach_addcmul.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_pow.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/train/gradients.hpp"
#include "ip2p/train/optimiser.hpp"

namespace ip2p {

/// Constants of MADGRAD. The defaults are those of Text2LIVE; the authors' package has no weight decay by default.
struct MadgradOptions {
  double momentum = 0.9;       ///< Fraction of the weights that an update keeps, in [0, 1).
  double weight_decay = 0.01;  ///< L2: times the weights, added to the gradient; >= 0.
  double eps = 1e-6;           ///< Added to the root and to the learning rate, > 0.
};

/// MADGRAD (Defazio and Jelassi 2021) with the arithmetic of the authors' package `madgrad`: parameters are a moving
/// average of start - sum / (cube root of squares + eps), where the sums of gradients and of their squares have weights
/// that grow with the square root of the number of updates.
///
/// Updates are counted per parameter, whereas the package counts calls; the two differ for parameters that had no
/// gradient in some calls.
class Madgrad {
 public:
  /// What the options of a run hold for it.
  using Options = MadgradOptions;

  /// \param parameters leaf tensors that require gradients; their storage is shared
  /// \throws Error for options out of range
  explicit Madgrad(std::vector<at::Tensor> parameters, const MadgradOptions& options = {})
      : parameters_(std::move(parameters)), options_(options) {
    require(options.momentum >= 0.0 && options.momentum < 1.0,
            "Madgrad: momentum: expected a value in [0, 1), found {}", options.momentum);
    require(options.weight_decay >= 0.0, "Madgrad: weight_decay: expected at least 0, found {}", options.weight_decay);
    require(options.eps > 0.0, "Madgrad: eps: expected more than 0, found {}", options.eps);
    for (const auto& parameter : parameters_) {
      start_.push_back(at::zeros_like(parameter));
      sums_.push_back(at::zeros_like(parameter));
      squares_.push_back(at::zeros_like(parameter));
      steps_.push_back(at::zeros({}, at::kFloat));  // on the CPU, because it is read there
    }
  }

  /// One update from the parameters' gradients; parameters without a gradient do not change.
  /// \param rate learning rate of this update  \throws Error when the parameters were moved to another device
  void step(double rate) {
    const at::NoGradGuard no_grad;
    detail::require_beside("Madgrad", sums_, parameters_);
    // Those with as many updates before have one weight; together they need few kernels. The limit bounds the memory of
    // intermediate values.
    constexpr std::int64_t together = std::int64_t{1} << 25;
    std::map<double, Group> groups;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (!parameters_[i].grad().defined()) continue;
      const double updates = steps_[i].item<double>();
      auto& group = groups[updates];
      group.places.push_back(i);
      group.elements += parameters_[i].numel();
      if (group.elements < together) continue;
      update(group.places, updates, rate);
      group = {};
    }
    for (const auto& [updates, group] : groups) {
      if (!group.places.empty()) update(group.places, updates, rate);
    }
  }

  /// Takes the gradients of all parameters away.
  void zero_gradients() { drop_gradients(parameters_); }

  /// What checkpoints hold, one tensor a parameter.
  [[nodiscard]] std::vector<OptimiserState> state() const {
    return {{"start", start_}, {"gradient_sum", sums_}, {"square_sum", squares_}, {"updates", steps_}};
  }

 private:
  struct Group {
    std::vector<std::size_t> places;
    std::int64_t elements = 0;
  };

  /// Updates the parameters at `places`, all of which have had `updates` so far.
  void update(const std::vector<std::size_t>& places, double updates, double rate) {
    std::vector<at::Tensor> values, gradients, start, sums, squares, steps;
    for (const auto i : places) {
      values.push_back(parameters_[i]);
      gradients.push_back(parameters_[i].grad());
      start.push_back(start_[i]);
      sums.push_back(sums_[i]);
      squares.push_back(squares_[i]);
      steps.push_back(steps_[i]);
    }
    // The initial weights may have been loaded after construction.
    if (updates == 0.0) at::_foreach_copy_(start, values);
    at::_foreach_add_(steps, 1.0);
    if (options_.weight_decay != 0.0) gradients = at::_foreach_add(gradients, values, options_.weight_decay);
    const double weight = (rate == 0.0 ? 0.0 : rate + options_.eps) * std::sqrt(updates + 1.0);
    at::_foreach_addcmul_(squares, gradients, gradients, weight);
    at::_foreach_add_(sums, gradients, weight);
    auto roots = at::_foreach_pow(squares, 1.0 / 3.0);
    at::_foreach_add_(roots, options_.eps);
    const auto goals = at::_foreach_addcdiv(start, sums, roots, -1);
    at::_foreach_mul_(values, options_.momentum);
    at::_foreach_add_(values, goals, 1.0 - options_.momentum);
  }

  std::vector<at::Tensor> parameters_, start_, sums_, squares_, steps_;
  MadgradOptions options_;
};
static_assert(OptimiserPolicy<Madgrad>);

}  // namespace ip2p
