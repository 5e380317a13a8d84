#pragma once

/// \file
/// The five layers that every model here is made of. Weights are public tensors under the names of the published files.
///
/// Constructors leave weights uninitialised, because nearly every model is loaded from a file: call `initialise()`
/// (nn/initialise.hpp) before training from nothing.

#include <ATen/ops/conv2d.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/silu.h>
#include <torch/nn/module.h>

#include <optional>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/nn/finite_probe.hpp"
#include "ip2p/nn/lora.hpp"
#include "ip2p/nn/packed_conv.hpp"

namespace ip2p {

namespace detail {

/// `weight` in the dtype of `x`: itself, or a copy for this call where weights are stored narrower than the arithmetic.
inline at::Tensor weight_for(const at::Tensor& x, const at::Tensor& weight) {
  return weight.defined() && weight.scalar_type() != x.scalar_type() ? weight.to(x.scalar_type()) : weight;
}

/// The same for a bias that may be absent.
inline std::optional<at::Tensor> bias_for(const at::Tensor& x, const at::Tensor& bias) {
  return bias.defined() ? std::optional<at::Tensor>(weight_for(x, bias)) : std::nullopt;
}

}  // namespace detail

/// y = x W^T + b over the last axis; W [out, in] (or [out, in, 1, 1] where the published file stores a 1x1
/// convolution).
struct Linear : torch::nn::Module, LoraHost {
  /// \param conv_shape keeps the weight in the file's 1x1 convolution shape; the arithmetic is the same.
  Linear(std::int64_t in, std::int64_t out, bool with_bias = true, bool conv_shape = false) {
    weight = register_parameter("weight", conv_shape ? at::empty({out, in, 1, 1}) : at::empty({out, in}));
    if (with_bias) bias = register_parameter("bias", at::empty({out}));
  }

  /// \param x [..., in]  \return [..., out]
  at::Tensor operator()(const at::Tensor& x) const {
    const auto w = detail::weight_for(x, weight);
    auto y = at::linear(x, w.dim() == 4 ? w.flatten(1) : w, detail::bias_for(x, bias));
    for (const auto& lora : loras) lora->add_linear(y, x);
    return detail::probed(this, y);
  }

  [[nodiscard]] std::vector<std::int64_t> weight_shape() const override { return weight.sizes().vec(); }

  at::Tensor weight, bias;
};

/// A layer that keeps its weights in another form while it is used for inference only.
struct Freezable {
  virtual ~Freezable() = default;

  /// From now on no gradients are asked for; the form is chosen at the first call, when shapes are known.
  virtual void freeze() = 0;

  /// Back to plain weights, which can be trained, moved, converted and saved.
  virtual void thaw() = 0;
};

/// Two-dimensional convolution with square kernel, stride and zero padding; W [out, in, k, k].
struct Conv2d : torch::nn::Module, Freezable, LoraHost {
  Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride_ = 1, std::int64_t padding_ = 0,
         bool with_bias = true)
      : stride(stride_), padding(padding_) {
    weight = register_parameter("weight", at::empty({out, in, kernel, kernel}));
    if (with_bias) bias = register_parameter("bias", at::empty({out}));
  }

  /// \param x [B, in, h, w], channels-last preferred  \return [B, out, h', w']
  at::Tensor operator()(const at::Tensor& x) const {
    const auto offset = detail::bias_for(x, bias);
    if (frozen_ && !settled_) settle(x);
    // No gradient passes through the packed form: where one is asked for, the weight is unpacked for the call.
    const bool packed = packed_.defined() && !(at::GradMode::is_enabled() && x.requires_grad());
    auto y = packed ? detail::conv_with_packed(x, packed_, offset, stride, padding)
                    : at::conv2d(x, detail::weight_for(x, plain_weight()), offset, stride, padding);
    add_loras(y, x);
    return detail::probed(this, y);
  }

  /// Adds to this layer's result y what its side paths make of x.
  void add_loras(at::Tensor& y, const at::Tensor& x) const {
    for (const auto& lora : loras) lora->add_conv(y, x, stride, padding);
  }

  void freeze() override { frozen_ = true; }

  void thaw() override {
    if (packed_.defined()) weight.set_data(packed_.to_dense());
    packed_ = at::Tensor();
    frozen_ = settled_ = false;
  }

  /// The weight [out, in, k, k] whatever its form: unpacked for the caller where it is packed.
  [[nodiscard]] at::Tensor plain_weight() const { return packed_.defined() ? packed_.to_dense() : weight; }

  [[nodiscard]] std::vector<std::int64_t> weight_shape() const override {
    return (packed_.defined() ? packed_ : weight).sizes().vec();
  }

  at::Tensor weight, bias;
  std::int64_t stride, padding;

 private:
  /// Chooses the weight's form for inputs like `x`: packed on CPUs that gain by it, else channels-last. The packed
  /// weight takes the plain one's place, so that memory does not grow.
  void settle(const at::Tensor& x) const {
    const at::NoGradGuard no_grad;
    auto plain = weight;
    if (plain.scalar_type() == x.scalar_type()) packed_ = detail::pack_conv(plain, stride, padding, x.sizes());
    plain.set_data(packed_.defined() ? at::empty({0}, plain.options())
                                     : plain.contiguous(at::MemoryFormat::ChannelsLast));
    settled_ = true;
  }

  bool frozen_ = false;
  mutable bool settled_ = false;
  mutable at::Tensor packed_;
};

/// Normalisation over groups of channels. \param eps 1e-5 in the UNet's residual blocks, 1e-6 elsewhere (reference).
struct GroupNorm : torch::nn::Module {
  GroupNorm(std::int64_t groups_, std::int64_t channels, double eps_) : groups(groups_), eps(eps_) {
    weight = register_parameter("weight", at::empty({channels}));
    bias = register_parameter("bias", at::empty({channels}));
  }

  /// \param x [B, channels, h, w]; keeps its memory format.
  at::Tensor operator()(const at::Tensor& x) const {
    return detail::probed(this,
                          at::group_norm(x, groups, detail::weight_for(x, weight), detail::weight_for(x, bias), eps));
  }

  /// silu(norm(x)), the pair that opens every residual half-block.
  at::Tensor silu(const at::Tensor& x) const {
    auto y = (*this)(x);
    return y.requires_grad() ? at::silu(y) : at::silu_(y);
  }

  at::Tensor weight, bias;
  std::int64_t groups;
  double eps;
};

/// Normalisation over the last axis (eps 1e-5, the reference's value everywhere).
struct LayerNorm : torch::nn::Module {
  explicit LayerNorm(std::int64_t channels) {
    weight = register_parameter("weight", at::empty({channels}));
    bias = register_parameter("bias", at::empty({channels}));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    return detail::probed(
        this, at::layer_norm(x, weight.sizes(), detail::weight_for(x, weight), detail::weight_for(x, bias), 1e-5));
  }

  at::Tensor weight, bias;
};

/// Table of rows. \return for ids [..] of int64: [.., channels]
struct Embedding : torch::nn::Module {
  Embedding(std::int64_t rows, std::int64_t channels) {
    weight = register_parameter("weight", at::empty({rows, channels}));
  }

  at::Tensor operator()(const at::Tensor& ids) const { return detail::probed(this, at::embedding(weight, ids)); }

  at::Tensor weight;
};

}  // namespace ip2p
