#pragma once

/// \file
/// Mixed precision: weights, gradients and optimiser in fp32, convolutions and matrix products in 16 bits.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/train/gradients.hpp"

namespace ip2p {

/// Scope guard for PyTorch's autocast on the current thread: operators for which 16 bits suffice (convolutions, matrix
/// products, attention) run in `dtype`, those that need more range or precision (losses; on a GPU norms and softmax) in
/// fp32. Weights stay fp32; their 16-bit copies are cached until the outermost scope ends. Put only the forward pass
/// inside; the backward pass follows its dtypes automatically.
///
/// \code
/// const at::Tensor loss = [&] {
///   const ip2p::Autocast autocast(at::kCUDA, at::kBFloat16);
///   return at::mse_loss(unet(x, t, context).to(at::kFloat), wanted);
/// }();
/// loss.backward();
/// \endcode
class Autocast {
 public:
  /// \param device type of the device that computes  \param dtype kBFloat16, kHalf (which needs a `LossScaler` in
  ///   training), or kFloat, which makes the scope a no-op
  Autocast(at::DeviceType device, at::ScalarType dtype) : device_(device), active_(dtype != at::kFloat) {
    if (!active_) return;
    was_enabled_ = at::autocast::is_autocast_enabled(device);
    old_ = at::autocast::get_autocast_dtype(device);
    at::autocast::set_autocast_enabled(device, true);
    at::autocast::set_autocast_dtype(device, dtype);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!active_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, was_enabled_);
    at::autocast::set_autocast_dtype(device_, old_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType device_;
  bool active_;
  bool was_enabled_ = false;
  at::ScalarType old_ = at::kFloat;
};

/// Constants of a `LossScaler`. The defaults are those of PyTorch's GradScaler.
struct LossScalerOptions {
  double initial_scale = 65536.0;       ///< > 0
  double growth_factor = 2.0;           ///< > 1
  double backoff_factor = 0.5;          ///< In (0, 1).
  std::int64_t growth_interval = 2000;  ///< Consecutive good updates before the scale grows, >= 1.
};

/// Keeps the gradients of an fp16 backward pass within fp16's range: multiplies the loss by a factor before the pass
/// and divides the gradients by it afterwards. If a gradient is not finite, the update is skipped and the factor
/// shrinks; after `growth_interval` consecutive good updates it grows. The arithmetic is that of
/// `torch.amp.GradScaler`. bf16 has the range of fp32 and does not need this.
class LossScaler {
 public:
  /// \throws Error for options out of range
  explicit LossScaler(const LossScalerOptions& options = {})
      : options_(options), scale_(at::full({}, options.initial_scale, at::kFloat)), good_(at::zeros({}, at::kInt)) {
    require(options.initial_scale > 0.0 && std::isfinite(options.initial_scale),
            "loss scaler: initial scale: expected a positive number, found {}", options.initial_scale);
    require(options.growth_factor > 1.0, "loss scaler: growth factor: expected more than 1, found {}",
            options.growth_factor);
    require(options.backoff_factor > 0.0 && options.backoff_factor < 1.0,
            "loss scaler: backoff factor: expected a number between 0 and 1, found {}", options.backoff_factor);
    require(options.growth_interval >= 1, "loss scaler: growth interval: expected at least 1, found {}",
            options.growth_interval);
  }

  /// The current factor.
  [[nodiscard]] double scale() const { return scale_.item<double>(); }

  /// Good updates since the factor last changed. Together with `scale()` this is the whole state.
  [[nodiscard]] std::int64_t good_updates() const { return good_.item<std::int64_t>(); }

  /// Restores the state of an earlier run.
  void set(double scale, std::int64_t good_updates) {
    scale_.fill_(scale);
    good_.fill_(good_updates);
  }

  /// The scaled loss, from which to start the backward pass.
  [[nodiscard]] at::Tensor scaled(const at::Tensor& loss) const { return loss * scale(); }

  /// Divides the gradients of `parameters` by the factor.
  /// \return whether all of them are finite  \throws Error for gradients in fp16, which have already lost their range
  [[nodiscard]] bool unscale(const std::vector<at::Tensor>& parameters) const {
    const at::NoGradGuard no_grad;
    const auto gradients = detail::stored_gradients(parameters);
    if (gradients.empty()) return true;
    for (const auto& gradient : gradients) {
      require(gradient.scalar_type() != at::kHalf,
              "loss scaler: expected gradients in fp32, as parameters in fp32 have them, found {}",
              c10::toString(gradient.scalar_type()));
    }
    const auto on_device = at::TensorOptions().dtype(at::kFloat).device(gradients.front().device());
    auto overflow = at::zeros({}, on_device);
    at::_amp_foreach_non_finite_check_and_unscale_(gradients, overflow, at::full({}, 1.0 / scale(), on_device));
    return overflow.item<float>() == 0.0F;
  }

  /// Ends an update. \param good false if it was skipped because loss or gradients were not finite
  void update(bool good) {
    const at::NoGradGuard no_grad;
    at::_amp_update_scale_(scale_, good_, at::full({}, good ? 0.0 : 1.0, at::kFloat), options_.growth_factor,
                           options_.backoff_factor, options_.growth_interval);
  }

 private:
  LossScalerOptions options_;
  at::Tensor scale_, good_;
};

}  // namespace ip2p
