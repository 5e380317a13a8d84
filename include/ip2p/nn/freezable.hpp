#pragma once

/// \file
/// Layers that keep their weights in another form while they are used for inference only.
///
/// A weight in its inference form is a parameter like any other, of the sizes and the dtype that it had; on CPUs its
/// layout may be oneDNN's (`is_mkldnn()`). LibTorch's operators refuse such a tensor rather than misread it;
/// `plain_parameters` (nn/state.hpp) reads the values of any module.


#include <mutex>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p {

/// A layer with a form for inference. Calls of it are safe in several threads at once, the first one included.
struct Freezable {
  virtual ~Freezable() = default;

  /// From now on the layer's own parameters ask for no gradients; the form is chosen at the first call, when shapes are
  /// known.
  virtual void freeze() = 0;

  /// Back to plain weights, which can be trained, moved, converted and written to.
  virtual void thaw() = 0;

  /// Whether the layer is in its form for inference.
  [[nodiscard]] virtual bool frozen() const = 0;

  /// While it is kept, calls in other threads do not change the form of the layer's own parameters.
  [[nodiscard]] virtual std::unique_lock<std::mutex> at_rest() const { return {}; }
};

namespace detail {

/// The values of a parameter in whatever form: itself, or unpacked.
inline at::Tensor plain_tensor(const at::Tensor& parameter) {
  return parameter.is_mkldnn() ? parameter.to_dense() : parameter;
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

/// Makes every parameter of a module plain for as long as it lives; what was frozen is frozen again afterwards.
class PlainForNow {
 public:
  explicit PlainForNow(Module& module) : layers_(frozen_layers(module)) {
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
