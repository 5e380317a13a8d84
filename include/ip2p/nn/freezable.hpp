#pragma once

/// \file
/// Layers that can store their weights in a form optimised for inference.
///
/// A weight in its inference form is still a parameter of the same dtype, but on CPUs a convolution's may have oneDNN's
/// layout (`is_mkldnn()`), and that of a convolution or a linear layer the order of kernels/cpu/weight_order.hpp, with
/// four or five dimensions. LibTorch's operators reject such a tensor rather than misread it; use `plain_parameters`
/// (nn/state.hpp) to read the values of any module.

#include <cstdint>
#include <mutex>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cpu/weight_order.hpp"
#include "ip2p/nn/int8_host.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p {

/// A layer with an inference form. It can be called from several threads at once, including for the first time.
struct Freezable {
  virtual ~Freezable() = default;

  /// Switches to inference: the layer's own parameters stop requiring gradients, and their form is chosen at the first
  /// call, when the shapes are known.
  virtual void freeze() = 0;

  /// Restores plain weights, which can be trained, moved, converted and written to. Those that required gradients
  /// before `freeze` do so again.
  virtual void thaw() = 0;

  /// Does now what the first call of a frozen layer would do, as far as that does not depend on its input, which is
  /// taken to have the dtype of the weights; nothing by default. For `ip2p::prepare` (nn/prepare.hpp).
  virtual void prepare() {}

  /// Whether the layer is in its form for inference.
  [[nodiscard]] virtual bool frozen() const = 0;

  /// A lock; while it is held, calls in other threads do not change the form of the layer's own parameters.
  [[nodiscard]] virtual std::unique_lock<std::mutex> at_rest() const { return {}; }

  /// Tensors that the layer has made of its parameters for inference and reads beside them.
  [[nodiscard]] virtual std::vector<at::Tensor> derived() const { return {}; }
};

namespace detail {

/// A parameter in plain form: itself, or an unpacked copy.
inline at::Tensor plain_tensor(const at::Tensor& parameter) {
  if (cpu::is_ordered_weight(parameter)) return cpu::plain_weight(parameter);
  return parameter.is_mkldnn() ? parameter.to_dense() : parameter;
}

/// The sizes of a parameter in plain form.
inline std::vector<std::int64_t> plain_shape(const at::Tensor& parameter) {
  return cpu::is_ordered_weight(parameter) ? cpu::plain_sizes(parameter) : parameter.sizes().vec();
}

/// The frozen layers of a module, itself included.
inline std::vector<Freezable*> frozen_layers(Module& module) {
  std::vector<Freezable*> found;
  for (auto* layer : module.modules()) {
    if (auto* freezable = dynamic_cast<Freezable*>(layer); freezable != nullptr && freezable->frozen()) {
      found.push_back(freezable);
    }
  }
  return found;
}

/// Thaws a module's frozen layers while this object exists, and freezes them again afterwards.
class PlainForNow {
 public:
  /// \throws Error, without changing anything, if the module has weights in 8 bits alone
  explicit PlainForNow(Module& module) : layers_((require_plain_weights(module), frozen_layers(module))) {
    for (auto* layer : layers_) layer->thaw();
  }
  ~PlainForNow() {
    for (auto* layer : layers_) layer->freeze();
  }
  PlainForNow(const PlainForNow&) = delete;
  PlainForNow& operator=(const PlainForNow&) = delete;

 private:
  std::vector<Freezable*> layers_;
};

}  // namespace detail

}  // namespace ip2p
