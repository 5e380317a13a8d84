#pragma once

/// \file
/// Tells whether a recording of a model's evaluation still fits the model.

#include <cstdint>
#include <cstring>

#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/fp8_weight.hpp"
#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/int8_host.hpp"
#include "ip2p/nn/lora.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p::detail {

/// A number that differs for different sequences of values, but for a chance of 2^-64 or so.
class Fingerprint {
 public:
  void add(std::uint64_t value) {
    // The finaliser of splitmix64 (Steele et al. 2014) over a running sum.
    state_ = (state_ ^ value) + 0x9e3779b97f4a7c15U;
    state_ = (state_ ^ (state_ >> 30U)) * 0xbf58476d1ce4e5b9U;
    state_ = (state_ ^ (state_ >> 27U)) * 0x94d049bb133111ebU;
    state_ ^= state_ >> 31U;
  }

  void add(double value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    add(bits);
  }

  /// Where a tensor's values are and how they are read; not the values.
  void add(const at::Tensor& tensor) {
    if (!tensor.defined()) return add(std::uint64_t{0});
    const void* place = tensor.has_storage() ? tensor.const_data_ptr() : tensor.unsafeGetTensorImpl();
    add(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(place)));
    add(static_cast<std::uint64_t>(tensor.scalar_type()));
    for (const auto size : tensor.sizes()) add(static_cast<std::uint64_t>(size));
    if (!tensor.has_storage()) return;
    for (const auto stride : tensor.strides()) add(static_cast<std::uint64_t>(stride));
  }

  [[nodiscard]] std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0;
};

/// Changes with anything that a recording of the module's evaluation has fixed: where its weights, their forms for
/// inference and in 8 bits and its LoRAs are, and the LoRAs' scales. Weights that change in place leave it as it is: a
/// recording reads the new values.
inline std::uint64_t fingerprint(const Module& module) {
  Fingerprint all;
  for (const auto* layer : module.modules()) {
    const auto* freezable = dynamic_cast<const Freezable*>(layer);
    const auto resting = freezable != nullptr ? freezable->at_rest() : std::unique_lock<std::mutex>();
    for (const auto& [name, tensor] : layer->own_parameters()) all.add(tensor);
    if (freezable != nullptr) {
      for (const auto& tensor : freezable->derived()) all.add(tensor);
    }
    if (const auto* host = dynamic_cast<const Fp8Host*>(layer); host != nullptr && host->fp8) {
      all.add(host->fp8->values);
      all.add(host->fp8->scale);
    }
    if (const auto* host = dynamic_cast<const Int8Host*>(layer); host != nullptr && host->int8) {
      all.add(host->int8->values);
      all.add(host->int8->scale);
    }
    const auto* host = dynamic_cast<const LoraHost*>(layer);
    if (host == nullptr) continue;
    for (const auto& lora : host->loras) {
      all.add(lora->down);
      all.add(lora->up);
      all.add(static_cast<std::uint64_t>(lora->first_row));
      all.add(*lora->scale * lora->strength);
    }
  }
  return all.value();
}

}  // namespace ip2p::detail
