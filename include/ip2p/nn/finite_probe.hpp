#pragma once

/// \file
/// Names the module that first produced a value that is not finite.

#include <ATen/core/Tensor.h>
#include <ATen/ops/isfinite.h>

#include <string>
#include <utility>

namespace ip2p::detail {

/// While one is alive, every layer of nn/layers.hpp reports its output to it. A run creates one only after it found NaN
/// or infinity in a result, to evaluate that step again and say where it began.
class FiniteProbe {
 public:
  FiniteProbe() : previous_(std::exchange(active(), this)) {}
  ~FiniteProbe() { active() = previous_; }
  FiniteProbe(const FiniteProbe&) = delete;
  FiniteProbe& operator=(const FiniteProbe&) = delete;

  /// The probe of this thread, or null.
  static FiniteProbe*& active() {
    static thread_local FiniteProbe* probe = nullptr;
    return probe;
  }

  void see(const void* layer, const at::Tensor& output) {
    if (first_ == nullptr && !at::isfinite(output).all().item<bool>()) first_ = layer;
  }

  /// The first layer with a value that is not finite, or null.
  [[nodiscard]] const void* first() const { return first_; }

 private:
  FiniteProbe* previous_;
  const void* first_ = nullptr;
};

/// Passes `output` through, showing it to the probe if there is one.
inline at::Tensor probed(const void* layer, at::Tensor output) {
  if (auto* probe = FiniteProbe::active()) [[unlikely]] {
    probe->see(layer, output);
  }
  return output;
}

}  // namespace ip2p::detail
