#pragma once

/// \file
/// The form of a layer's weight while the layer is frozen.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/intrusive_ptr.h>

#include <mutex>
#include <optional>

#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/once.hpp"

namespace ip2p::detail {

/// Whether a layer is frozen, whether the form of its weight is chosen, and which tensor was the parameter before one
/// in another form took its place. Const members are safe while other threads call the layer.
class WeightForm {
 public:
  [[nodiscard]] bool frozen() const { return frozen_; }

  void freeze() {
    frozen_ = true;
    settled_.reset();
  }

  /// \param weight the parameter  \return the plain one, to take its place; undefined if it is that already
  [[nodiscard]] at::Tensor thaw(const at::Tensor& weight) {
    at::Tensor plain;
    if (plain_) {
      const at::NoGradGuard no_grad;
      // If someone (e.g. an optimiser) still holds the plain tensor, put that same tensor back into use.
      const auto kept = plain_->lock();
      plain = kept ? at::Tensor(kept) : plain_tensor(weight).contiguous();
      plain.set_requires_grad(weight.requires_grad());
    }
    plain_.reset();
    frozen_ = false;
    return plain;
  }

  /// Has a frozen layer's form chosen by `choose`, unless that is done. Other callers wait for it.
  template <class Choose>
  void settle(Choose&& choose) const {
    if (frozen_) settled_.call(choose);
  }

  /// Whether another form has taken the place of the plain parameter.
  [[nodiscard]] bool changed() const { return plain_.has_value(); }

  /// Notes the plain parameter, whose place another form takes; called by `choose`.
  void remember(const at::Tensor& plain) const { plain_.emplace(plain.getIntrusivePtr()); }

  /// A lock; while it is held, the form stays as it is.
  [[nodiscard]] std::unique_lock<std::mutex> at_rest() const { return settled_.lock(); }

 private:
  using WeakTensor = c10::weak_intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl>;

  bool frozen_ = false;
  Once settled_;
  mutable std::optional<WeakTensor> plain_;
};

}  // namespace ip2p::detail
