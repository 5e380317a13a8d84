#pragma once

/// \file
/// Finds the module that first produced a non-finite value.

#include <ATen/core/Tensor.h>
#include <ATen/ops/isfinite.h>

#include <string>
#include <utility>

#include "ip2p/core/model_changes.hpp"

namespace ip2p::detail {

/// While a probe is alive, every layer of nn/layers.hpp called in its thread reports its output to it. A run creates
/// one only after finding NaN or infinity in a result, to evaluate that step again and report where it started.
class FiniteProbe {
 public:
  // A network that is watched has no fingerprint.
  FiniteProbe() : previous_(std::exchange(active(), this)) { note_model_change(); }
  ~FiniteProbe() {
    active() = previous_;
    note_model_change();
  }
  FiniteProbe(const FiniteProbe&) = delete;
  FiniteProbe& operator=(const FiniteProbe&) = delete;

  /// The probe of this thread, or null.
  static FiniteProbe*& active() {
    static thread_local FiniteProbe* probe = nullptr;
    return probe;
  }

  /// Called by layers: remembers `layer` if it is the first with a non-finite output.
  void see(const void* layer, const at::Tensor& output) {
    if (first_ == nullptr && !at::isfinite(output).all().item<bool>()) first_ = layer;
  }

  /// The first layer with a non-finite output, or null.
  [[nodiscard]] const void* first() const { return first_; }

 private:
  FiniteProbe* previous_;
  const void* first_ = nullptr;
};

/// Returns `output`, after showing it to the probe if there is one.
inline at::Tensor probed(const void* layer, at::Tensor output) {
  if (auto* probe = FiniteProbe::active()) [[unlikely]] {
    probe->see(layer, output);
  }
  return output;
}

}  // namespace ip2p::detail
