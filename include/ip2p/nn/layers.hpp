#pragma once

/// \file
/// The five basic layers of all models here. Weights are public tensors, named as in the published files.
///
/// Constructors leave weights uninitialised, because nearly every model is loaded from a file. Call `initialise()`
/// (nn/initialise.hpp) before training from scratch.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/core/model_changes.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/nn/convolution.hpp"
#include "ip2p/nn/finite_probe.hpp"
#include "ip2p/nn/fp8_weight.hpp"
#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/int8_host.hpp"
#include "ip2p/nn/int8_weight.hpp"
#include "ip2p/nn/lora.hpp"
#include "ip2p/nn/module.hpp"
#include "ip2p/nn/packed_conv.hpp"
#include "ip2p/nn/weight_layer.hpp"

namespace ip2p {

/// y = x W^T + b over the last axis; W is [out, in], or [out, in, 1, 1] if the published file stores a 1x1 convolution.
///
/// When frozen, the weight is brought into the order in which the vector code of CPUs reads it, by `prepare` or the
/// first call if that records no graph. The new weight replaces the plain one as the parameter, so no extra memory is
/// used. A call that records a graph makes a plain copy of such a weight: `thaw` models that are differentiated.
struct Linear : WeightLayer, Fp8Host {
  /// \param conv_shape gives the weight the shape of a 1x1 convolution, as in the file; the arithmetic is the same.
  Linear(std::int64_t in, std::int64_t out, bool with_bias = true, bool conv_shape = false) {
    weight = register_parameter("weight", conv_shape ? at::empty({out, in, 1, 1}) : at::empty({out, in}));
    if (with_bias) bias = register_parameter("bias", at::empty({out}));
  }

  /// \param x [..., in]  \return [..., out]
  at::Tensor operator()(const at::Tensor& x) const {
    auto y = int8 ? detail::int8_linear(x, *int8, bias) : in_fp8(x) ? detail::fp8_linear(x, *fp8, bias) : product(x);
    for (const auto& lora : loras) lora->add_linear(y, x);
    return detail::probed(this, y);
  }

  /// The result plus `residual`, which has its shape: in one pass over memory where the device's kernel can.
  [[nodiscard]] at::Tensor plus(const at::Tensor& x, const at::Tensor& residual) const {
    if (!is_product(x)) return (*this)(x) + residual;
    return detail::probed(this, product(x, residual));
  }

  /// activation(the result): in one pass over memory where the device's kernel can. \param x [..., in]
  /// \return [..., out]
  [[nodiscard]] at::Tensor activated(const at::Tensor& x, Activation activation) const {
    if (!is_product(x)) return detail::libtorch::activated((*this)(x), activation);
    return detail::probed(this,
                          kernels_for(x).linear_activated(x, weight_as(x), detail::weight_for(x, bias), activation));
  }

  /// a * gelu(b) with [a, b] = the result: without writing a and b where the device's kernel can.
  /// \param x [..., in]  \return [..., out / 2]
  [[nodiscard]] at::Tensor geglu(const at::Tensor& x) const {
    const auto& kernels = kernels_for(x);
    if (kernels.linear_geglu != nullptr && is_product(x)) {
      const auto y = kernels.linear_geglu(x, weight_as(x), detail::weight_for(x, bias));
      if (y.defined()) return detail::probed(this, y);
    }
    return kernels.geglu((*this)(x), {});
  }

  void prepare() override {
    settle_form([&] { order(weight.scalar_type()); });
  }

 private:
  /// Orders a plain weight for inputs of `dtype`, if vector code is to compute the layer.
  void order(at::ScalarType dtype) const {
    if (may_change() && weight.size(0) % detail::cpu::weight_line == 0 &&
        detail::cpu::wants_blocked_linear(dtype, weight.flatten(1))) {
      change(detail::cpu::linear_weight(weight));
    }
  }

  /// The weight for x, in its dtype: [out, in], or in the order of `cpu::linear_weight` in fp32. Its form is chosen
  /// first.
  [[nodiscard]] at::Tensor weight_as(const at::Tensor& x) const {
    settle_form([&] {
      if (x.device().is_cpu() && !detail::records_graph(x, weight, bias)) order(x.scalar_type());
    });
    if (x.scalar_type() == at::kFloat && detail::cpu::is_linear_weight(weight)) return weight;
    const auto w = detail::weight_for(x, detail::plain_tensor(weight));
    return w.dim() == 4 ? w.flatten(1) : w;
  }

  [[nodiscard]] at::Tensor product(const at::Tensor& x, const at::Tensor& residual = {}) const {
    return kernels_for(x).linear(x, weight_as(x), detail::weight_for(x, bias), residual);
  }

  /// Whether the result for x is the product with the plain weight and nothing more.
  [[nodiscard]] bool is_product(const at::Tensor& x) const {
    return !int8 && !in_fp8(x) && std::ranges::none_of(loras, [](const auto& lora) { return lora->active(); });
  }

  [[nodiscard]] bool in_fp8(const at::Tensor& x) const {
    return fp8 && x.numel() > 0 && !detail::records_graph(x, weight, bias) &&
           !at::autocast::is_autocast_enabled(x.device().type());
  }
};

/// Two-dimensional convolution with a square kernel, equal strides and zero padding; W is [out, in, k, k].
///
/// When frozen, the first call chooses the weight's form: reordered for Winograd's filtering where that is faster
/// (`ConvolutionForm`), or for a 1x1 kernel that is computed as a linear layer of pixels, packed if the CPU benefits,
/// otherwise channels-last. The new weight replaces the plain one as the parameter, so no extra memory is used.
struct Conv2d : WeightLayer {
  /// \param kernel side of the square kernel  \param with_bias false: no bias is added
  Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride_ = 1, std::int64_t padding_ = 0,
         bool with_bias = true)
      : stride(stride_), padding(padding_) {
    weight = register_parameter("weight", at::empty({out, in, kernel, kernel}));
    if (with_bias) bias = register_parameter("bias", at::empty({out}));
  }

  /// \param x [B, in, h, w], channels-last preferred  \return [B, out, h', w']
  /// \throws Error if a packed weight requires gradients
  at::Tensor operator()(const at::Tensor& x) const { return convolve(x, bias); }

  /// The result plus `residual`, which has its shape: in one pass over memory where the layer's form can.
  [[nodiscard]] at::Tensor plus(const at::Tensor& x, const at::Tensor& residual) const {
    return convolve(x, bias, residual);
  }

  /// The result before its bias is added, for blocks that leave that to the next operator (`Kernels::bias_apart`).
  [[nodiscard]] at::Tensor without_bias(const at::Tensor& x) const { return convolve(x, {}); }

  /// The result, without LoRAs, for x enlarged to twice its size by repeating pixels, which are not written; undefined
  /// if this layer's form cannot do that. \param x [B, in, h, w]
  [[nodiscard]] at::Tensor of_doubled(const at::Tensor& x) const {
    if (int8) return detail::int8_winograd(x, *int8, bias, padding, true);
    settle(x);
    return detail::takes_winograd(x, weight, bias, padding) ? detail::winograd(x, weight, bias, padding, true)
                                                            : at::Tensor();
  }

  /// Adds the outputs of this layer's LoRAs for x to its result y.
  void add_loras(at::Tensor& y, const at::Tensor& x) const {
    for (const auto& lora : loras) lora->add_conv(y, x, stride, padding);
  }

  /// Reorders the weight for vector code. Packing and channels-last copies wait for the first call.
  void prepare() override {
    if (int8 || !reorders(weight.scalar_type())) return;
    settle_form([&] { reorder(); });
  }

  /// Chooses among the forms of a frozen layer, from the next call on. Must not run concurrently with calls.
  void set_form(ConvolutionForm form) {
    if (form == form_) return;
    form_ = form;
    if (!frozen()) return;
    thaw();
    freeze();
  }

  /// The choice among the forms.
  [[nodiscard]] ConvolutionForm form() const { return form_; }

  std::int64_t stride, padding;  ///< In pixels, along both axes.
  /// How 3x3 maps of stride 1 are convolved while gradients are computed, by `winograd_gradients`; null: by LibTorch. A
  /// pointer, so that only those who train with it compile it.
  at::Tensor (*with_gradients)(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                               std::int64_t padding) = nullptr;

 private:
  /// Whether `with_gradients` is set and takes x.
  [[nodiscard]] bool takes_gradients(const at::Tensor& x, const at::Tensor& added) const {
    return with_gradients != nullptr && detail::records_graph(x, weight, added) && x.is_cpu() && x.dim() == 4 &&
           x.numel() > 0 && x.size(1) == weight.size(1) && x.size(2) + 2 * padding >= 3 &&
           x.size(3) + 2 * padding >= 3 && detail::wants_winograd(x.scalar_type(), weight, stride, padding) &&
           (!added.defined() || added.scalar_type() == at::kFloat);
  }

  [[nodiscard]] at::Tensor convolve(const at::Tensor& x, const at::Tensor& added,
                                    const at::Tensor& residual = {}) const {
    if (int8) return convolve_int8(x, added, residual);
    settle(x);
    if (auto y = of_pixels(x, added, residual); y.defined()) {
      add_loras(y, x);
      return detail::probed(this, y);
    }
    const bool winograd = detail::takes_winograd(x, weight, added, padding);
    const bool fused = winograd && residual.defined() && residual.scalar_type() == at::kFloat &&
                       residual.device().is_cpu() && !detail::records_graph(residual);
    auto y = winograd             ? detail::winograd(x, weight, added, padding, false, fused ? residual : at::Tensor())
                         : weight.is_mkldnn() ? convolve_packed(x, added)
             : takes_gradients(x, added) ? with_gradients(x, weight, added, padding)
                                         : detail::convolution(x, detail::plain_tensor(weight), added, stride, padding);
    add_loras(y, x);
    detail::probed(this, y);
    if (fused || !residual.defined()) return y;
    return y.requires_grad() || residual.requires_grad() ? y + residual : y.add_(residual);
  }

  [[nodiscard]] at::Tensor convolve_int8(const at::Tensor& x, const at::Tensor& added,
                                         const at::Tensor& residual) const {
    const bool fused = residual.defined() && residual.scalar_type() == at::kFloat && residual.device().is_cpu() &&
                       x.scalar_type() == at::kFloat;
    auto y = detail::int8_winograd(x, *int8, added, padding, false, fused ? residual : at::Tensor());
    add_loras(y, x);
    detail::probed(this, y);
    return fused || !residual.defined() ? y : y.add_(residual);
  }

  /// The result, plus the residual if that is defined, of a 1x1 kernel as a linear layer of pixels; undefined where
  /// that is not to be had.
  [[nodiscard]] at::Tensor of_pixels(const at::Tensor& x, const at::Tensor& added, const at::Tensor& residual) const {
    if (x.dim() != 4 || !detail::cpu::is_linear_weight(weight)) return {};
    const auto rows = [](const at::Tensor& map) { return map.defined() ? map.permute({0, 2, 3, 1}) : map; };
    if (!detail::cpu::takes_blocked_linear(rows(x), weight, added, rows(residual))) return {};
    return detail::cpu::blocked_linear(rows(x), weight, added, rows(residual)).permute({0, 3, 1, 2});
  }

  /// Chooses a frozen weight's form for inputs like `x`.
  void settle(const at::Tensor& x) const {
    settle_form([&] { choose(x); });
  }

  void choose(const at::Tensor& x) const {
    if (!may_change()) return;
    if (x.device().is_cpu() && reorders(x.scalar_type())) return reorder();
    const at::NoGradGuard no_grad;
    auto plain = weight;
    auto packed =
        plain.scalar_type() == x.scalar_type() ? detail::pack_conv(plain, stride, padding, x.sizes()) : at::Tensor();
    if (!packed.defined()) {
      plain.set_data(plain.contiguous(at::MemoryFormat::ChannelsLast));
      note_model_change();
      return;
    }
    change(std::move(packed));
  }

  /// Whether the plain weight is to be reordered for inputs of `dtype`: whatever the size of the map, so that a result
  /// does not depend on the maps that came before.
  [[nodiscard]] bool reorders(at::ScalarType dtype) const {
    return form_ == ConvolutionForm::fastest &&
           (detail::wants_winograd(dtype, weight, stride, padding) || is_of_pixels(dtype));
  }

  /// Whether vector code is to compute the layer as a linear layer of pixels.
  [[nodiscard]] bool is_of_pixels(at::ScalarType dtype) const {
    return detail::is_linear_of_pixels(weight, stride, padding) && weight.size(0) % detail::cpu::weight_line == 0 &&
           detail::cpu::wants_blocked_linear(dtype, weight.flatten(1));
  }

  /// Reorders a plain weight for Winograd's filtering or as that of a linear layer. Const as `settle`.
  void reorder() const {
    if (!may_change()) return;
    const at::NoGradGuard no_grad;
    change(weight.size(2) == 1 ? detail::cpu::linear_weight(weight) : detail::cpu::winograd_weight(weight));
  }

  /// Gradients cannot pass through the packed form, so the weight is unpacked for this call if x requires gradients or
  /// has another dtype.
  [[nodiscard]] at::Tensor convolve_packed(const at::Tensor& x, const at::Tensor& added) const {
    const bool graph = at::GradMode::is_enabled();
    require(
        !graph || (!weight.requires_grad() && !(bias.defined() && bias.requires_grad())),
        "Conv2d: weight: expected plain weights to compute their gradients, found packed ones; thaw() the model first");
    return (graph && x.requires_grad()) || x.scalar_type() != weight.scalar_type()
               ? detail::convolution(x, weight.to_dense(), added, stride, padding)
               : detail::conv_with_packed(x, weight, detail::bias_for(x, added), stride, padding);
  }

  ConvolutionForm form_ = ConvolutionForm::fastest;
};

/// Chooses the form of all convolutions of a module, e.g. `ConvolutionForm::direct` for oneDNN's rounding. Must not run
/// concurrently with calls.
inline void set_convolution_form(Module& module, ConvolutionForm form) {
  for (auto* layer : module.modules()) {
    if (auto* conv = dynamic_cast<Conv2d*>(layer)) conv->set_form(form);
  }
}

/// Normalisation over groups of channels.
struct GroupNorm : Module {
  /// \param groups_ divides `channels`
  GroupNorm(std::int64_t groups_, std::int64_t channels, double eps_) : groups(groups_), eps(eps_) {
    weight = register_parameter("weight", at::empty({channels}));
    bias = register_parameter("bias", at::empty({channels}));
  }

  /// \param x [B, channels, h, w]  \return the same shape and memory format
  at::Tensor operator()(const at::Tensor& x) const {
    return detail::probed(this, kernels_for(x).group_norm_silu(x, {}, weight, bias, groups, eps, false));
  }

  /// silu(norm(x + add)), which starts each half of a residual block.
  /// \param add [B or 1, channels, 1, 1]; undefined for nothing
  [[nodiscard]] at::Tensor silu(const at::Tensor& x, const at::Tensor& add = {}) const {
    return detail::probed(this, kernels_for(x).group_norm_silu(x, add, weight, bias, groups, eps, true));
  }

  at::Tensor weight, bias;  ///< [channels] each.
  std::int64_t groups;
  double eps;  ///< Added to the variance.
};

/// Normalisation over the last axis.
struct LayerNorm : Module {
  /// \param channels length of the last axis  \param eps_ added to the variance
  explicit LayerNorm(std::int64_t channels, double eps_ = 1e-5) : eps(eps_) {
    weight = register_parameter("weight", at::empty({channels}));
    bias = register_parameter("bias", at::empty({channels}));
  }

  /// x [..., channels] -> the same shape.
  at::Tensor operator()(const at::Tensor& x) const {
    return detail::probed(
        this, at::layer_norm(x, weight.sizes(), detail::weight_for(x, weight), detail::weight_for(x, bias), eps));
  }

  /// x + residual, both [..., channels], and the normalisation of that sum.
  [[nodiscard]] SumAndNorm of_sum(const at::Tensor& x, const at::Tensor& residual) const {
    auto result = kernels_for(x).add_layer_norm(x, residual, weight, bias, eps);
    detail::probed(this, result.normed);
    return result;
  }

  at::Tensor weight, bias;  ///< [channels] each.
  double eps;               ///< Added to the variance.
};

/// A lookup table of vectors.
struct Embedding : Module {
  /// \param rows ids are below it  \param channels length of a row
  Embedding(std::int64_t rows, std::int64_t channels) {
    weight = register_parameter("weight", at::empty({rows, channels}));
  }

  /// ids [..], int64 -> [.., channels].
  at::Tensor operator()(const at::Tensor& ids) const { return detail::probed(this, at::embedding(weight, ids)); }

  at::Tensor weight;  ///< [rows, channels].
};

}  // namespace ip2p
