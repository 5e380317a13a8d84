#pragma once

/// \file
/// Adafactor: second moments factored into a row and a column.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_clamp_min.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_rsqrt.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/train/gradients.hpp"
#include "ip2p/train/optimiser.hpp"

namespace ip2p {

/// Constants of Adafactor. The defaults are PyTorch's.
struct AdafactorOptions {
  double beta2_decay = -0.8;     ///< Decay of the second moments at update t is 1 - t^beta2_decay; <= 0.
  std::optional<double> eps1{};  ///< Lower bound of a second moment's root, >= 0; by default the dtype's epsilon.
  double eps2 = 1e-3;         ///< Updates are relative to the root mean square of their parameter, at least this; >= 0.
  double threshold = 1.0;     ///< Largest root mean square of an update before its scaling (the paper's d), >= 1.
  double weight_decay = 0.0;  ///< Decoupled, times the learning rate; >= 0.
};

/// Adafactor (Shazeer and Stern 2018) without momentum, as in `torch.optim.Adafactor`. The learning rate is the largest
/// relative step, `rate(t) = min(rate, 1 / sqrt(t))`, so it is usually 1e-2 rather than 1e-4.
///
/// For tensors of two or more dimensions it stores only the mean squared gradients along the last and the second-last
/// dimension: almost nothing for a linear layer, two thirds of the weights for a 3x3 convolution.
class Adafactor {
 public:
  /// What the options of a run hold for it.
  using Options = AdafactorOptions;

  /// \param parameters leaf tensors that require gradients, all on one device; their storage is shared
  /// \throws Error for options out of range
  explicit Adafactor(std::vector<at::Tensor> parameters, const AdafactorOptions& options = {})
      : parameters_(std::move(parameters)), options_(options) {
    require(options.beta2_decay <= 0.0, "Adafactor: beta2_decay: expected at most 0, found {}", options.beta2_decay);
    const double eps1 = options.eps1.value_or(0.0);
    require(eps1 >= 0.0, "Adafactor: eps1: expected at least 0, found {}", eps1);
    require(options.eps2 >= 0.0, "Adafactor: eps2: expected at least 0, found {}", options.eps2);
    require(options.threshold >= 1.0, "Adafactor: threshold: expected at least 1, found {}", options.threshold);
    require(options.weight_decay >= 0.0, "Adafactor: weight_decay: expected at least 0, found {}",
            options.weight_decay);
    for (const auto& parameter : parameters_) {
      const bool factored = parameter.dim() > 1;
      auto rows = parameter.sizes().vec(), columns = rows;
      if (factored) {
        rows.back() = 1;
        columns[columns.size() - 2] = 1;
      }
      rows_.push_back(factored ? at::zeros(rows, parameter.options()) : at::Tensor());
      columns_.push_back(factored ? at::zeros(columns, parameter.options()) : at::Tensor());
      whole_.push_back(factored ? at::Tensor() : at::zeros_like(parameter));
      steps_.push_back(at::zeros({}, at::kFloat));  // on the CPU, because it is read there
    }
  }

  /// One update from the parameters' gradients; parameters without a gradient do not change.
  /// \param rate largest relative step of this update  \throws Error when the parameters were moved to another device
  void step(double rate) {
    const at::NoGradGuard no_grad;
    require_beside();
    // Groups need fewer kernels than single tensors; one group would need a copy of all weights.
    constexpr std::int64_t together = std::int64_t{1} << 25;
    std::vector<std::size_t> group;
    std::int64_t elements = 0;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      if (!parameters_[i].grad().defined() || parameters_[i].numel() == 0) continue;
      group.push_back(i);
      elements += parameters_[i].numel();
      if (elements < together) continue;
      update(group, rate);
      group.clear();
      elements = 0;
    }
    if (!group.empty()) update(group, rate);
  }

  /// Takes the gradients of all parameters away.
  void zero_gradients() { drop_gradients(parameters_); }

  /// What checkpoints hold, one tensor a parameter; undefined where a parameter has none of that kind.
  [[nodiscard]] std::vector<OptimiserState> state() const {
    return {{"row_moment", rows_}, {"column_moment", columns_}, {"second_moment", whole_}, {"updates", steps_}};
  }

 private:
  static double epsilon(at::ScalarType dtype) {
    switch (dtype) {
      case at::kDouble:
        return std::numeric_limits<double>::epsilon();
      case at::kHalf:
        return std::numeric_limits<c10::Half>::epsilon();
      case at::kBFloat16:
        return std::numeric_limits<c10::BFloat16>::epsilon();
      default:
        return std::numeric_limits<float>::epsilon();
    }
  }

  void require_beside() const {
    std::vector<at::Tensor> own;
    for (std::size_t i = 0; i < parameters_.size(); ++i) own.push_back(rows_[i].defined() ? rows_[i] : whole_[i]);
    detail::require_beside("Adafactor", own, parameters_);
  }

  /// Norm of each tensor, fp64 and in one tensor where they are.
  static at::Tensor norms(const std::vector<at::Tensor>& tensors) {
    return at::stack(at::_foreach_norm(tensors)).to(at::kDouble);
  }

  /// Mean of the squares along `dim`, which is kept with size 1.
  static at::Tensor mean_square(const at::Tensor& tensor, std::int64_t dim) {
    return at::linalg_vector_norm(tensor, 2, at::IntArrayRef(dim), /*keepdim=*/true).square_().div_(tensor.size(dim));
  }

  void update(const std::vector<std::size_t>& group, double rate) {
    std::vector<at::Tensor> values, gradients, moments, means;
    std::vector<at::Scalar> shares;
    std::vector<double> relative, lengths;
    for (const auto i : group) {
      const auto gradient = parameters_[i].grad();
      values.push_back(parameters_[i]);
      gradients.push_back(gradient);
      const double t = steps_[i].add_(1.0).item<double>();
      const double share = std::pow(t, options_.beta2_decay);
      relative.push_back(std::min(rate, 1.0 / std::sqrt(t)));
      lengths.push_back(std::sqrt(static_cast<double>(gradient.numel())));
      const auto meet = [&](const at::Tensor& moment, at::Tensor mean) {
        moments.push_back(moment);
        means.push_back(std::move(mean));
        shares.emplace_back(share);
      };
      if (rows_[i].defined()) {
        meet(rows_[i], mean_square(gradient, -1));
        meet(columns_[i], mean_square(gradient, -2));
      } else {
        meet(whole_[i], at::mul(gradient, gradient));
      }
    }
    at::_foreach_lerp_(moments, means, shares);
    means.clear();

    // Root mean squares and what follows from them stay on the device, so that no update waits for one before it.
    const auto numbers = detail::to_device(at::tensor(relative, at::kDouble), values.front().device());
    const auto roots = detail::to_device(at::tensor(lengths, at::kDouble), values.front().device());
    const auto sizes = norms(values).div_(roots);
    if (options_.weight_decay != 0.0) at::_foreach_mul_(values, 1.0 - rate * options_.weight_decay);
    const double eps1 = options_.eps1.value_or(epsilon(values.front().scalar_type()));
    std::vector<at::Tensor> updates;
    for (const auto i : group) {
      updates.push_back(
          rows_[i].defined()
              ? at::mul(rows_[i], columns_[i]).div_(rows_[i].mean({-2}, /*keepdim=*/true).clamp_min_(eps1))
              : whole_[i].clone());
    }
    at::_foreach_clamp_min_(updates, eps1 * eps1);  // squared because the root follows
    at::_foreach_rsqrt_(updates);
    at::_foreach_mul_(updates, gradients);
    const auto spreads = norms(updates).div_(roots);
    const auto factors =
        sizes.clamp_min(options_.eps2).mul_(numbers).neg_().div_(spreads.div(options_.threshold).clamp_min_(1.0));
    at::_foreach_mul_(updates, factors.unbind(0));
    at::_foreach_add_(values, updates);
  }

  std::vector<at::Tensor> parameters_, rows_, columns_, whole_, steps_;
  AdafactorOptions options_;
};
static_assert(OptimiserPolicy<Adafactor>);

}  // namespace ip2p
