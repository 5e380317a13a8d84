#pragma once

/// \file
/// What layers with a weight have in common: its form while the layer is frozen.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/int8_host.hpp"
#include "ip2p/nn/lora.hpp"
#include "ip2p/nn/module.hpp"
#include "ip2p/nn/once.hpp"

namespace ip2p {

/// A layer with the parameters `weight` and, where it has one, `bias`. While it is frozen, another form of the weight
/// may take the place of the plain parameter; then no extra memory is used.
struct WeightLayer : Module, Freezable, LoraHost, Int8Host {
  void freeze() override {
    suspend_gradients();
    frozen_ = true;
    settled_.reset();
  }

  void thaw() override {
    if (plain_) {
      const at::NoGradGuard no_grad;
      // If someone (e.g. an optimiser) still holds the plain tensor, put that same tensor back into use.
      const auto kept = plain_->lock();
      auto plain = kept ? at::Tensor(kept) : detail::plain_tensor(weight).contiguous();
      plain.set_requires_grad(weight.requires_grad());
      hold(std::move(plain));
    }
    plain_.reset();
    frozen_ = false;
    resume_gradients();
  }

  [[nodiscard]] bool frozen() const override { return frozen_; }

  [[nodiscard]] std::unique_lock<std::mutex> at_rest() const override { return settled_.lock(); }

  /// The weight in plain form; a copy if it is in another.
  [[nodiscard]] at::Tensor plain_weight() const {
    const auto resting = at_rest();
    return detail::plain_tensor(weight);
  }

  [[nodiscard]] std::vector<std::int64_t> weight_shape() const override {
    const auto resting = at_rest();
    return detail::plain_shape(weight);
  }

  at::Tensor weight;  ///< Plain, or in another form while frozen; `plain_weight()` is always plain.
  at::Tensor bias;    ///< [out]; undefined where there is none.

 protected:
  /// Has a frozen layer's form chosen by `choose`, unless that is done. Concurrent callers wait for it. Const for
  /// callers, because values do not change.
  template <class Choose>
  void settle_form(Choose&& choose) const {
    if (frozen_) settled_.call(choose);
  }

  /// Whether the weight may be given another form: it is the plain one and asks for no gradients.
  [[nodiscard]] bool may_change() const { return !plain_ && !int8 && !weight.requires_grad(); }

  /// Puts another form in the place of the plain weight; called by `choose`.
  void change(at::Tensor form) const {
    plain_.emplace(weight.getIntrusivePtr());
    const_cast<WeightLayer*>(this)->hold(std::move(form));
  }

 private:
  void hold(at::Tensor form) {
    replace_parameter("weight", form);
    weight = std::move(form);
  }

  using WeakTensor = c10::weak_intrusive_ptr<at::TensorImpl, at::UndefinedTensorImpl>;

  bool frozen_ = false;
  detail::Once settled_;
  mutable std::optional<WeakTensor> plain_;  ///< The parameter before another took its place.
};

}  // namespace ip2p
