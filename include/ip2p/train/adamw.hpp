#pragma once

/// \file
/// AdamW over many tensors in one fused operator.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/train/gradients.hpp"
#include "ip2p/train/optimiser.hpp"

namespace ip2p {

/// Constants of AdamW. The defaults are PyTorch's, which InstructPix2Pix uses.
struct AdamWOptions {
  double beta1 = 0.9;          ///< Decay of the mean of gradients, in [0, 1).
  double beta2 = 0.999;        ///< Decay of the mean of their squares, in [0, 1).
  double eps = 1e-8;           ///< Added to the root of that mean, > 0.
  double weight_decay = 0.01;  ///< Share of a weight that each update takes off, times the rate, >= 0.
};

/// AdamW (Loshchilov and Hutter 2019). The state of each tensor is the running mean of its gradients, that of their
/// squares, and the number of updates.
class AdamW {
 public:
  /// What the options of a run hold for it.
  using Options = AdamWOptions;

  /// \param parameters leaf tensors that require gradients; their storage is shared
  explicit AdamW(std::vector<at::Tensor> parameters, const AdamWOptions& options = {})
      : parameters_(std::move(parameters)), options_(options) {
    for (const auto& parameter : parameters_) {
      first_.push_back(at::zeros_like(parameter));
      second_.push_back(at::zeros_like(parameter));
      steps_.push_back(at::full({}, 0.0, at::TensorOptions().dtype(at::kFloat).device(parameter.device())));
    }
  }

  /// One update from the parameters' gradients; parameters without a gradient do not change.
  /// \param rate learning rate of this update  \throws Error when the parameters were moved to another device
  void step(double rate) {
    const at::NoGradGuard no_grad;
    detail::require_beside("AdamW", first_, parameters_);
    std::vector<at::Tensor> values, gradients, first, second, steps;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      auto gradient = parameters_[i].grad();
      if (!gradient.defined()) continue;
      // The fused operator walks all tensors in memory order without checking that their strides agree.
      if (gradient.strides() != parameters_[i].strides()) gradient = at::empty_like(parameters_[i]).copy_(gradient);
      values.push_back(parameters_[i]);
      gradients.push_back(gradient);
      first.push_back(first_[i]);
      second.push_back(second_[i]);
      steps.push_back(steps_[i]);
    }
    if (values.empty()) return;
    at::_foreach_add_(steps, 1.0);
    at::_fused_adamw_(values, gradients, first, second, {}, steps, rate, options_.beta1, options_.beta2,
                      options_.weight_decay, options_.eps, /*amsgrad=*/false, /*maximize=*/false);
  }

  /// Takes the gradients of all parameters away.
  void zero_gradients() { drop_gradients(parameters_); }

  /// What checkpoints hold, one tensor a parameter.
  [[nodiscard]] std::vector<OptimiserState> state() const {
    return {{"first_moment", first_}, {"second_moment", second_}, {"updates", steps_}};
  }

 private:
  std::vector<at::Tensor> parameters_, first_, second_, steps_;
  AdamWOptions options_;
};
static_assert(OptimiserPolicy<AdamW>);

}  // namespace ip2p
