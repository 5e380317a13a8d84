#pragma once

/// \file
/// Low-rank side paths for layers (LoRA, Hu et al. 2021): y += scale * up(down(x)), without modifying their weights.

#include <ATen/ops/conv2d.h>
#include <ATen/ops/linear.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/convolution.hpp"

namespace ip2p {

/// One low-rank change to a layer's output. `down` and `up` may require gradients; fp32 or the compute dtype.
struct LoraPath {
  at::Tensor down;             ///< [rank, in], or [rank, in, k, k] with the layer's stride and padding.
  at::Tensor up;               ///< [rows, rank], or [rows, rank, 1, 1].
  std::int64_t first_row = 0;  ///< First of the `rows` output rows that it changes (a block, for fused projections).
  double strength = 1;         ///< alpha / rank.
  std::shared_ptr<const double> scale;  ///< Set by the user; shared by all paths of one LoRA.

  /// Whether it changes anything: its scale is not 0.
  [[nodiscard]] bool active() const { return *scale * strength != 0; }

  /// For a linear layer: adds the change for x [..., in] to y [..., out].
  void add_linear(at::Tensor& y, const at::Tensor& x) const {
    if (!active()) return;
    const auto factor = *scale * strength;
    const auto matrix = [&](const at::Tensor& weight) { return weight.flatten(1).to(x.scalar_type()); };
    const auto change = at::linear(at::linear(x, matrix(down)), matrix(up));
    y.narrow(-1, first_row, up.size(0)).add_(change, factor);
  }

  /// For a convolution: adds the change for x [B, in, h, w] to y [B, out, h', w'].
  void add_conv(at::Tensor& y, const at::Tensor& x, std::int64_t stride, std::int64_t padding) const {
    if (!active()) return;
    const auto factor = *scale * strength;
    const auto inner = detail::convolution(x, down, {}, stride, padding);
    y.narrow(1, first_row, up.size(0)).add_(at::conv2d(inner, up.to(x.scalar_type())), factor);
  }
};

/// A layer that LoRAs can be attached to.
struct LoraHost {
  virtual ~LoraHost() = default;

  /// [out, in] or [out, in, k, k], regardless of the weight's current form.
  [[nodiscard]] virtual std::vector<std::int64_t> weight_shape() const = 0;

  std::vector<std::shared_ptr<LoraPath>> loras;  ///< Attached by `apply_lora` (nn/apply_lora.hpp).
};

}  // namespace ip2p
