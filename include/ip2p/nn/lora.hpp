#pragma once

/// \file
/// Low-rank side paths of layers (LoRA, Hu et al. 2021): y += scale * up(down(x)), beside weights that stay as they
/// are.

#include <ATen/ops/conv2d.h>
#include <ATen/ops/linear.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/convolution.hpp"

namespace ip2p {

/// One low-rank change of a layer's output. `down` and `up` may ask for gradients; fp32 or the dtype of the arithmetic.
struct LoraPath {
  at::Tensor down;             ///< [rank, in], or [rank, in, k, k] with the layer's stride and padding.
  at::Tensor up;               ///< [rows, rank], or [rows, rank, 1, 1].
  std::int64_t first_row = 0;  ///< Of the `rows` output rows that it changes: fused projections are blocks of rows.
  double strength = 1;         ///< alpha / rank.
  std::shared_ptr<const double> scale;  ///< The user's, shared by all paths of one LoRA.

  /// Adds to y [..., out] what belongs to x [..., in].
  void add_linear(at::Tensor& y, const at::Tensor& x) const {
    const auto factor = *scale * strength;
    if (factor == 0) return;
    const auto matrix = [&](const at::Tensor& weight) { return weight.flatten(1).to(x.scalar_type()); };
    const auto change = at::linear(at::linear(x, matrix(down)), matrix(up));
    y.narrow(-1, first_row, up.size(0)).add_(change, factor);
  }

  /// Adds to y [B, out, h', w'] what belongs to x [B, in, h, w].
  void add_conv(at::Tensor& y, const at::Tensor& x, std::int64_t stride, std::int64_t padding) const {
    const auto factor = *scale * strength;
    if (factor == 0) return;
    const auto inner = detail::convolution(x, down, {}, stride, padding);
    y.narrow(1, first_row, up.size(0)).add_(at::conv2d(inner, up.to(x.scalar_type())), factor);
  }

  /// Moves and converts both tensors in place; they stay the same leaves.
  void to(at::Device device, at::ScalarType dtype) {
    for (auto* tensor : {&down, &up}) tensor->set_data(tensor->detach().to(device, dtype));
  }
};

/// A layer that side paths can be hung on.
struct LoraHost {
  virtual ~LoraHost() = default;

  /// [out, in] or [out, in, k, k], whatever form the weight has just now.
  [[nodiscard]] virtual std::vector<std::int64_t> weight_shape() const = 0;

  std::vector<std::shared_ptr<LoraPath>> loras;  ///< See nn/apply_lora.hpp.
};

}  // namespace ip2p
