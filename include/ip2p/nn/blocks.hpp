#pragma once

/// \file
/// Blocks shared by the UNet and the autoencoder: the residual block, downsampling and upsampling.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/for_device.hpp"
#include "ip2p/nn/freezable.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/measured_choice.hpp"
#include "ip2p/nn/once.hpp"

namespace ip2p {

/// Residual block of Stable Diffusion: norm, SiLU, conv, (+ time), norm, SiLU, conv, + shortcut
/// (diffusers `ResnetBlock2D`, `time_embedding_norm="default"`).
struct ResnetBlock : Module {
  /// \param time_channels width of the time embedding; 0 for a block without one (autoencoder).
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
  /// \param time the time embedding projected by `time_emb_proj`, [B or 1, out, 1, 1]; undefined if there is none.
  /// \return [B, out, h, w]
  at::Tensor operator()(const at::Tensor& x, const at::Tensor& time = {}) const {
    const auto& kernels = kernels_for(x);
    if (kernels.bias_apart && !at::GradMode::is_enabled()) return with_bias_apart(x, time, kernels);
    auto h = (*conv1)(norm1->silu(x));
    h = norm2->silu(h, time);
    return conv2->plus(h, conv_shortcut ? (*conv_shortcut)(x) : x);
  }

  /// Number of output channels.
  [[nodiscard]] std::int64_t channels() const { return norm2->weight.size(0); }

  std::shared_ptr<GroupNorm> norm1, norm2;  ///< Before each convolution.
  /// Two of 3x3; a shortcut of 1x1 where the channels change, else null.
  std::shared_ptr<Conv2d> conv1, conv2, conv_shortcut;
  std::shared_ptr<Linear> time_emb_proj;  ///< Adds the time embedding; null in a block without one.

 private:
  /// The same, with the biases of the convolutions added by the operators that follow them.
  [[nodiscard]] at::Tensor with_bias_apart(const at::Tensor& x, const at::Tensor& time, const Kernels& kernels) const {
    auto added = conv1->bias.view({1, -1, 1, 1});
    if (time.defined()) added = time + added;
    const auto h = conv2->without_bias(norm2->silu(conv1->without_bias(norm1->silu(x)), added));
    if (!conv_shortcut) return kernels.add_bias_residual(h, conv2->bias, x);
    return kernels.add_bias_residual(h, conv2->bias + conv_shortcut->bias, conv_shortcut->without_bias(x));
  }
};

/// Halves the feature map with a strided 3x3 convolution.
struct Downsample : Module {
  /// \param asymmetric_ pads right and bottom only (autoencoder) instead of all sides (UNet); reference behaviour.
  Downsample(std::int64_t channels, bool asymmetric_) : asymmetric(asymmetric_) {
    conv = register_module("conv", std::make_shared<Conv2d>(channels, channels, 3, 2, asymmetric_ ? 0 : 1));
  }

  /// x [B, C, h, w] -> [B, C, h / 2, w / 2], halves rounded up in the UNet, down in the autoencoder.
  at::Tensor operator()(const at::Tensor& x) const {
    return (*conv)(asymmetric ? at::constant_pad_nd(x, {0, 1, 0, 1}, 0) : x);
  }

  std::shared_ptr<Conv2d> conv;  ///< 3x3, stride 2.
  bool asymmetric;               ///< Pads right and bottom only.
};

/// Nearest-neighbour upsampling to a given size, then a 3x3 convolution.
///
/// While frozen, exact doubling never writes the enlarged map: a convolution by Winograd's filtering reads the small
/// map instead, and a direct one is computed on it. Each of the result's four phases depends on 2x2 input pixels, so
/// its nine taps collapse into four: the same sums with 2.25 times fewer products. On a GPU, where convolving the
/// enlarged map can be faster nevertheless, both are timed once for each shape if cuDNN may time its algorithms too.
struct Upsample : Module, Freezable {
  /// \param channels of input and result
  explicit Upsample(std::int64_t channels) {
    conv = register_module("conv", std::make_shared<Conv2d>(channels, channels, 3, 1, 1));
  }

  /// \param x [B, C, h, w]
  /// \param height, width size of the result: twice the input, or one less if the matching skip connection is odd
  /// \return [B, C, height, width]
  at::Tensor operator()(const at::Tensor& x, std::int64_t height, std::int64_t width) const {
    const bool doubled = height == 2 * x.size(2) && width == 2 * x.size(3);
    const auto enlarged = [&] {
      return doubled ? kernels_for(x).upsample_nearest_2x(x)
                     : at::upsample_nearest2d(x, at::IntArrayRef{height, width});
    };
    if (!frozen_ || !doubled) return (*conv)(enlarged());
    if (auto y = conv->of_doubled(x); y.defined()) {
      if (!conv->loras.empty()) conv->add_loras(y, enlarged());
      return detail::probed(conv.get(), y);
    }
    if (detail::MeasuredChoice::allowed(x) &&
        faster_.second_is_faster(
            x, [&] { (void)in_phases(x); }, [&] { (void)(*conv)(enlarged()); },
            [](at::Device device, const auto& work) { return detail::seconds_on(device, work); })) {
      return (*conv)(enlarged());
    }
    auto y = in_phases(x);
    if (!conv->loras.empty()) conv->add_loras(y, enlarged());
    return detail::probed(conv.get(), y);
  }

  void freeze() override { frozen_ = true; }

  void thaw() override {
    frozen_ = false;
    phases_ = nullptr;
    formed_.reset();
    faster_.reset();
  }

  [[nodiscard]] bool frozen() const override { return frozen_; }

  [[nodiscard]] std::vector<at::Tensor> derived() const override {
    const auto resting = formed_.lock();
    if (!phases_) return {};
    const auto phases_resting = phases_->at_rest();
    return {phases_->weight, phases_->bias};
  }

  std::shared_ptr<Conv2d> conv;  ///< 3x3.

 private:
  /// The result, without LoRAs, of a convolution on the small map. \param x [B, C, h, w]  \return [B, C, 2h, 2w]
  [[nodiscard]] at::Tensor in_phases(const at::Tensor& x) const {
    formed_.call([&] { phases_ = collapse(); });
    const auto all = (*phases_)(x);  // [B, 4*C, h+1, w+1]: phase-major channels
    const auto channels = all.size(1) / 4;
    auto y =
        at::empty({x.size(0), channels, 2 * x.size(2), 2 * x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
    for (std::int64_t row = 0; row < 2; ++row) {
      for (std::int64_t column = 0; column < 2; ++column) {
        y.slice(2, row, std::nullopt, 2)
            .slice(3, column, std::nullopt, 2)
            .copy_(all.narrow(1, (2 * row + column) * channels, channels)
                       .narrow(2, row, x.size(2))
                       .narrow(3, column, x.size(3)));
      }
    }
    return y;
  }

  /// Sums the taps of the 3x3 weight, in fp32, into a 2x2 weight for each phase; rows first, then columns.
  [[nodiscard]] std::shared_ptr<Conv2d> collapse() const {
    const at::NoGradGuard no_grad;
    const auto merge = [](const at::Tensor& w, std::int64_t axis, std::int64_t phase) {
      const auto tap = [&](std::int64_t i) { return w.narrow(axis, i, 1); };
      return phase == 0 ? at::cat({tap(0), tap(1) + tap(2)}, axis) : at::cat({tap(0) + tap(1), tap(2)}, axis);
    };
    const auto weight = conv->plain_weight();  // it may already be packed, after a call with another size
    const auto taps = weight.to(at::kFloat);
    std::vector<at::Tensor> phases;
    for (std::int64_t row = 0; row < 2; ++row) {
      for (std::int64_t column = 0; column < 2; ++column) phases.push_back(merge(merge(taps, 2, row), 3, column));
    }
    auto result = std::make_shared<Conv2d>(taps.size(1), 4 * taps.size(0), 2, 1, 1);
    result->weight.set_data(at::cat(phases, 0).to(weight.options()));
    result->bias.set_data(conv->bias.repeat({4}));
    result->freeze();
    return result;
  }

  bool frozen_ = false;
  detail::Once formed_;
  mutable std::shared_ptr<Conv2d> phases_;
  mutable detail::MeasuredChoice faster_;  ///< In phases, or enlarged.
};

}  // namespace ip2p
