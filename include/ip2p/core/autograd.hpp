#pragma once

/// \file
/// LibTorch's automatic differentiation, without its header, which takes twice as long to compile as its tensors.

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

// The declaration of torch/csrc/autograd/autograd.h, less its default arguments.
namespace torch::autograd {
TORCH_API std::vector<at::Tensor> grad(const std::vector<at::Tensor>& outputs, const std::vector<at::Tensor>& inputs,
                                       const std::vector<at::Tensor>& grad_outputs, std::optional<bool> retain_graph,
                                       bool create_graph, bool allow_unused);
}  // namespace torch::autograd

namespace ip2p::detail {

/// Gradients of the scalar `output` with respect to `inputs`; undefined for inputs that it does not depend on. What has
/// accumulated in the `grad()` of the inputs is left alone, so several threads may differentiate at the same time.
inline std::vector<at::Tensor> gradients_of(const at::Tensor& output, const std::vector<at::Tensor>& inputs) {
  return torch::autograd::grad({output}, inputs, {}, std::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
}

}  // namespace ip2p::detail
