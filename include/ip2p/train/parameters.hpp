#pragma once

/// \file
/// The tensors that a training run changes, under stable names.

#include <torch/nn/module.h>

#include <string>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/nn/freezable.hpp"

namespace ip2p {

/// Trained tensors and their names, in a fixed order.
struct Parameters {
  std::vector<std::string> names;
  std::vector<at::Tensor> tensors;  ///< Leaves that ask for gradients, fp32.

  /// Adds every parameter of `module` as "<prefix>.<name>" and makes it ask for gradients; what was frozen is thawed.
  Parameters& add(torch::nn::Module& module, const std::string& prefix) {
    for (auto* layer : detail::frozen_layers(module)) layer->thaw();
    for (auto& item : module.named_parameters()) {
      item.value().set_requires_grad(true);
      names.push_back(prefix + "." + item.key());
      tensors.push_back(item.value());
    }
    return *this;
  }

  [[nodiscard]] std::size_t size() const { return tensors.size(); }

  /// Number of trained scalars.
  [[nodiscard]] std::int64_t elements() const {
    std::int64_t count = 0;
    for (const auto& tensor : tensors) count += tensor.numel();
    return count;
  }
};

}  // namespace ip2p
