#pragma once

/// \file
/// Exponential moving average of weights.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_lerp.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/train/gradients.hpp"

namespace ip2p {

/// Moving average of the weights, with the warm-up of the reference (`LitEma`):
/// decay(n) = min(decay, (1 + n) / (10 + n)) at update n >= 1, starting from the current weights.
///
/// n counts updates. The released training averages after each of an update's four micro-batches instead. To first
/// order that is the same during its warm-up, which lasts until about update 22,500; from then on it amounts to
/// `decay`^4 per update.
class ExponentialAverage {
 public:
  /// \param decay largest decay, in [0, 1)
  explicit ExponentialAverage(std::vector<at::Tensor> parameters, double decay = 0.9999)
      : parameters_(std::move(parameters)), decay_(decay) {
    require(decay >= 0.0 && decay < 1.0, "EMA decay: expected a value in [0, 1), found {}", decay);
    for (const auto& parameter : parameters_) average_.push_back(parameter.detach().clone());
  }

  /// Decay of update n (1 for the first).
  [[nodiscard]] double decay_at(std::int64_t n) const {
    return std::min(decay_, (1.0 + static_cast<double>(n)) / (10.0 + static_cast<double>(n)));
  }

  /// average += (1 - decay) * (parameters - average). \throws Error when the parameters were moved to another device
  void update() {
    const at::NoGradGuard no_grad;
    detail::require_beside("EMA", average_, parameters_);
    ++updates_;
    if (average_.empty()) return;
    at::_foreach_lerp_(average_, parameters_, 1.0 - decay_at(updates_));
  }

  /// Swaps weights and averages; calling it twice restores both.
  void swap() {
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const auto weights = parameters_[i].detach().clone();
      parameters_[i].copy_(average_[i]);
      average_[i].copy_(weights);
    }
  }

  /// The averages, one a parameter in their order.
  [[nodiscard]] const std::vector<at::Tensor>& average() const { return average_; }
  /// Updates made.
  [[nodiscard]] std::int64_t updates() const { return updates_; }

  /// Continues a run: sets the number of updates made; the averages themselves are written through `average()`.
  void set_updates(std::int64_t updates) { updates_ = updates; }

 private:
  std::vector<at::Tensor> parameters_, average_;
  double decay_;
  std::int64_t updates_ = 0;
};

}  // namespace ip2p
