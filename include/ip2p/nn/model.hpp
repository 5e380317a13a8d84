#pragma once

/// \file
/// What every model handle offers: a shared module, its place and its size.

#include <c10/core/Device.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/finite_probe.hpp"
#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/lora.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p {

/// A regular value that shares one module: copies are cheap and refer to the same weights.
template <class Root>
class ModelHandle {
 public:
  /// The module itself, with parameters under the names of nn/state.hpp.
  [[nodiscard]] Root& module() const { return *module_; }

  /// Moves and converts the weights, and what `apply_lora` added, in place. \param dtype fp32, bf16 or fp16
  void to(at::Device device, at::ScalarType dtype) {
    const detail::PlainForNow plain(*module_);
    arithmetic_.reset();
    module_->to(device, dtype);
    for (auto* layer : module_->modules()) {
      if (const auto* host = dynamic_cast<LoraHost*>(layer)) {
        for (const auto& lora : host->loras) lora->to(device, dtype);
      }
    }
  }

  /// Where the weights are.
  [[nodiscard]] at::Device device() const { return first().device(); }

  /// Dtype of the arithmetic: that of the weights, unless `compute_in` chose a wider one.
  [[nodiscard]] at::ScalarType dtype() const { return arithmetic_ ? *arithmetic_ : first().scalar_type(); }

  /// Keeps the weights as they are and computes in `dtype`: each layer widens its own weights for the call. Half the
  /// memory of fp32 with nearly its results, on machines without fast 16-bit arithmetic. Holds for this handle and its
  /// copies made from now on, until `to()`.
  void compute_in(at::ScalarType dtype) { arithmetic_ = dtype; }

  /// Makes the model inference-only: weights ask for no gradients and may change their form at the first call
  /// (packed for the CPU, channels-last elsewhere).
  void freeze() { set_frozen(true); }

  /// Makes the model's weights plain again, to train them or write to them.
  void thaw() { set_frozen(false); }

  /// Evaluates once more and names the layer that first produced a value that is not finite; empty if none did.
  /// \param evaluate calls the model with the inputs that led to the bad result
  template <class Evaluate>
  [[nodiscard]] std::string first_non_finite(Evaluate&& evaluate) const {
    detail::FiniteProbe probe;
    evaluate();
    for (const auto& [name, layer] : module_->named_modules()) {
      if (layer == probe.first()) return name;
    }
    return {};
  }

 protected:
  /// For models: takes a module, whose weights all copies of the handle share.
  explicit ModelHandle(std::shared_ptr<Root> module) : module_(std::move(module)), lasting_(lasting(*module_)) {}

  std::shared_ptr<Root> module_;  ///< Shared by all copies.

 private:
  void set_frozen(bool frozen) {
    for (auto* layer : module_->modules()) {
      if (auto* freezable = dynamic_cast<Freezable*>(layer)) frozen ? freezable->freeze() : freezable->thaw();
    }
    for (const auto& parameter : module_->parameters()) parameter.set_requires_grad(!frozen);
  }

  /// A parameter that stays the same tensor for the life of the module, which the weight of a convolution need not;
  /// undefined if there is none. To look one up at each question would list all of them.
  [[nodiscard]] static at::Tensor lasting(const Module& module) {
    for (const auto& parameter : module.parameters()) {
      if (parameter.dim() != 4) return parameter;
    }
    return {};
  }

  [[nodiscard]] at::Tensor first() const { return lasting_.defined() ? lasting_ : module_->parameters().front(); }

  at::Tensor lasting_;
  std::optional<at::ScalarType> arithmetic_;
};

}  // namespace ip2p
