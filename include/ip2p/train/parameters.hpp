#pragma once

/// \file
/// The tensors that a training run changes, under stable names.

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/nn/freezable.hpp"

namespace ip2p {

namespace detail {

/// Puts the numbers of a convolution's weight on a CPU or a GPU into channels-last order, in which LibTorch convolves
/// channels-last maps and returns the gradient: left in another, weight and gradient are copied three times in every
/// step.
inline void order_for_gradients(const at::Tensor& weight) {
  if (!weight.is_cpu() && !weight.is_cuda()) return;
  if (weight.dim() != 4 || weight.size(2) * weight.size(3) == 1 || weight.size(1) == 1) return;
  if (weight.layout() != at::kStrided || weight.is_contiguous(at::MemoryFormat::ChannelsLast)) return;
  weight.set_data(weight.detach().contiguous(at::MemoryFormat::ChannelsLast));
  note_model_change();
}

}  // namespace detail

/// Tensors to train and their names, in a fixed order.
///
/// \code
/// auto both = ip2p::Parameters().add(unet).add(text_model);
/// auto side_paths = ip2p::Parameters().add(ip2p::new_lora(unet, {.rank = 8}));
/// \endcode
struct Parameters {
  std::vector<std::string> names;
  std::vector<at::Tensor> tensors;  ///< Leaf tensors that require gradients, fp32.

  /// Adds every parameter of `module` as "<prefix>.<name>" and makes it require gradients, even if it was frozen. The
  /// numbers of convolutions' weights may change their order in memory.
  /// \param module a `Module`, or a `torch::nn::Module`
  template <class Layers>
  requires requires(Layers& layers) { layers.named_parameters(); }
  Parameters& add(Layers& module, std::string_view prefix) & {
    const auto add_one = [&](const std::string& name, at::Tensor tensor) {
      tensor.set_requires_grad(true);
      names.push_back(std::string(prefix) + "." + name);
      tensors.push_back(std::move(tensor));
    };
    if constexpr (std::is_base_of_v<Module, Layers>) {
      for (auto* layer : detail::frozen_layers(module)) layer->thaw();
      for (auto* layer : module.modules()) layer->resume_gradients();
      for (const auto& [name, tensor] : module.named_parameters()) {
        detail::order_for_gradients(tensor);
        add_one(name, tensor);
      }
    } else {
      for (const auto& item : module.named_parameters()) add_one(item.key(), item.value());
    }
    return *this;
  }

  /// The same for a handle that holds a module: `UNet`, `ClipTextModel` or your own network. The prefix is its
  /// component's name ("unet"), if it has one.
  template <class Model>
  requires requires(const Model& model) {
    model.module();
    std::string_view(Model::component);
  }
  Parameters& add(const Model& model) & { return add(model.module(), Model::component); }

  /// Adds a LoRA made by `new_lora` or attached by `apply_lora`, under its tensors' names, and makes it require
  /// gradients. The models' own weights are not added.
  template <class Lora>
  requires requires(const Lora& lora) { lora.tensors(); }
  Parameters& add(const Lora& lora) & {
    for (const auto& [name, tensor] : lora.tensors()) {
      tensors.push_back(tensor);
      tensors.back().set_requires_grad(true);
      names.push_back(name);
    }
    return *this;
  }

  /// The same on a temporary, returned by value so that `for (auto& t : Parameters().add(unet).tensors)` is safe.
  template <class... Added>
  [[nodiscard]] Parameters add(Added&&... added) && {
    add(std::forward<Added>(added)...);
    return std::move(*this);
  }

  /// Number of tensors.
  [[nodiscard]] std::size_t size() const { return tensors.size(); }

  /// Number of trained scalars.
  [[nodiscard]] std::int64_t elements() const {
    std::int64_t count = 0;
    for (const auto& tensor : tensors) count += tensor.numel();
    return count;
  }
};

}  // namespace ip2p
