#pragma once

/// \file
/// The base of all model handles: a shared module, its device and its dtype.

#include <c10/core/Device.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "ip2p/core/device.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/finite_probe.hpp"
#include "ip2p/nn/fp8_weight.hpp"
#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/int8_host.hpp"
#include "ip2p/nn/lora.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p {

/// A handle to a shared module. Copies are cheap and refer to the same weights.
template <class Root>
class ModelHandle {
 public:
  /// The module itself. Use nn/state.hpp to access its parameters by their names in files.
  [[nodiscard]] Root& module() const { return *module_; }

  /// Moves and converts the weights and any applied LoRAs, in place. The first move to a GPU switches TF32 off (see
  /// `allow_tf32`). \param dtype fp32, bf16 or fp16  \throws Error for a CUDA device that does not exist
  void to(at::Device device, at::ScalarType dtype) {
    detail::prepare_device(device);
    const detail::PlainForNow plain(*module_);
    module_->to(device, dtype);
    place_additions(device, dtype);
    arithmetic_.reset();
  }

  /// Moves the weights and any applied LoRAs, in place; each tensor keeps its dtype, and `compute_in` its effect. As
  /// above on the first move to a GPU. \throws Error for a CUDA device that does not exist
  void to(at::Device device) {
    detail::prepare_device(device);
    const detail::PlainForNow plain(*module_);
    module_->to(device);
    place_additions(device, std::nullopt);
  }

  /// Converts the weights and any applied LoRAs, in place, wherever they are. \param dtype fp32, bf16 or fp16
  void to(at::ScalarType dtype) {
    const detail::PlainForNow plain(*module_);
    module_->to(dtype);
    place_additions(std::nullopt, dtype);
    arithmetic_.reset();
  }

  /// Where the weights are.
  [[nodiscard]] at::Device device() const { return first().device(); }

  /// The compute dtype: that of the weights, unless `compute_in` chose a wider one.
  [[nodiscard]] at::ScalarType dtype() const { return arithmetic_ ? *arithmetic_ : first().scalar_type(); }

  /// Computes in `dtype` without converting the stored weights: each layer widens its own weights during the call. On
  /// machines without fast 16-bit arithmetic this needs half the memory of fp32 and gives nearly the same results. It
  /// applies to this handle and to copies made later, until `to` is given a dtype.
  void compute_in(at::ScalarType dtype) { arithmetic_ = dtype; }

  /// Makes the model inference-only: weights stop requiring gradients and may change their form at the first call
  /// (packed for the CPU, channels-last elsewhere).
  void freeze() { set_frozen(true); }

  /// Restores plain weights, for training or for writing to them. Those that required gradients before `freeze` do so
  /// again; those that did not, because someone had turned them off, do not. \throws Error after `use_int8`
  void thaw() { set_frozen(false); }

  /// Runs `evaluate` and names the layer that first produced a non-finite value; empty if none did.
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
    if (!frozen) detail::require_plain_weights(*module_);
    for (auto* layer : module_->modules()) {
      if (auto* freezable = dynamic_cast<Freezable*>(layer)) frozen ? freezable->freeze() : freezable->thaw();
      frozen ? layer->suspend_gradients() : layer->resume_gradients();
    }
  }

  /// Moves LoRAs along; weights in 8 bits belong to the device and the weights that they were made for.
  void place_additions(std::optional<at::Device> device, std::optional<at::ScalarType> dtype) {
    for (auto* layer : module_->modules()) {
      if (auto* host = dynamic_cast<Fp8Host*>(layer)) host->fp8.reset();
      const auto* host = dynamic_cast<LoraHost*>(layer);
      if (host == nullptr) continue;
      for (const auto& lora : host->loras) {
        detail::place(lora->down, device, dtype);
        detail::place(lora->up, device, dtype);
      }
    }
    note_model_change();
  }

  /// A parameter that stays the same tensor for the life of the module (a layer's weight may not); undefined if
  /// there is none. Cached, because looking one up means listing all parameters.
  [[nodiscard]] static at::Tensor lasting(const Module& module) {
    for (const auto& parameter : module.parameters()) {
      if (parameter.dim() < 2) return parameter;
    }
    return {};
  }

  [[nodiscard]] at::Tensor first() const { return lasting_.defined() ? lasting_ : module_->parameters().front(); }

  at::Tensor lasting_;
  std::optional<at::ScalarType> arithmetic_;
};

}  // namespace ip2p
