#pragma once

/// \file
/// Blocks shared by the UNet and the autoencoder: residual block, resamplers.

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <memory>

#include "ip2p/nn/layers.hpp"

namespace ip2p {

/// Residual block of Stable Diffusion: norm, SiLU, conv, (+ time), norm, SiLU, conv, + shortcut
/// (diffusers `ResnetBlock2D`, `time_embedding_norm="default"`).
struct ResnetBlock : torch::nn::Module {
  /// \param time_channels width of the time embedding, 0 for a block without one (autoencoder).
  ResnetBlock(std::int64_t in, std::int64_t out, std::int64_t time_channels, std::int64_t groups, double eps) {
    norm1 = register_module("norm1", std::make_shared<GroupNorm>(groups, in, eps));
    conv1 = register_module("conv1", std::make_shared<Conv2d>(in, out, 3, 1, 1));
    if (time_channels > 0) {
      time_emb_proj = register_module("time_emb_proj", std::make_shared<Linear>(time_channels, out));
    }
    norm2 = register_module("norm2", std::make_shared<GroupNorm>(groups, out, eps));
    conv2 = register_module("conv2", std::make_shared<Conv2d>(out, out, 3, 1, 1));
    if (in != out) conv_shortcut = register_module("conv_shortcut", std::make_shared<Conv2d>(in, out, 1));
  }

  /// \param x [B, in, h, w]
  /// \param time the block's own projection of the time embedding, [B or 1, out, 1, 1]; undefined without one.
  /// \return [B, out, h, w]
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& time = {}) const {
    auto h = (*conv1)(norm1->silu(x));
    if (time.defined()) h = h.requires_grad() || time.requires_grad() ? h + time : h.add_(time);
    h = (*conv2)(norm2->silu(h));
    const auto shortcut = conv_shortcut ? (*conv_shortcut)(x) : x;
    return h.requires_grad() || shortcut.requires_grad() ? h + shortcut : h.add_(shortcut);
  }

  std::shared_ptr<GroupNorm> norm1, norm2;
  std::shared_ptr<Conv2d> conv1, conv2, conv_shortcut;
  std::shared_ptr<Linear> time_emb_proj;
};

/// Halves the map by a strided 3x3 convolution.
struct Downsample : torch::nn::Module {
  /// \param asymmetric pads right and bottom only (autoencoder) instead of all sides (UNet); reference behaviour.
  Downsample(std::int64_t channels, bool asymmetric_) : asymmetric(asymmetric_) {
    conv = register_module("conv", std::make_shared<Conv2d>(channels, channels, 3, 2, asymmetric_ ? 0 : 1));
  }

  at::Tensor operator()(const at::Tensor& x) const {
    return (*conv)(asymmetric ? at::constant_pad_nd(x, {0, 1, 0, 1}, 0) : x);
  }

  std::shared_ptr<Conv2d> conv;
  bool asymmetric;
};

/// Nearest-neighbour enlargement to a given size, then a 3x3 convolution.
struct Upsample : torch::nn::Module {
  explicit Upsample(std::int64_t channels) {
    conv = register_module("conv", std::make_shared<Conv2d>(channels, channels, 3, 1, 1));
  }

  /// \param height, width size of the result: twice the input, or one less where the matching skip was odd.
  at::Tensor operator()(const at::Tensor& x, std::int64_t height, std::int64_t width) const {
    return (*conv)(at::upsample_nearest2d(x, at::IntArrayRef{height, width}));
  }

  std::shared_ptr<Conv2d> conv;
};

}  // namespace ip2p
