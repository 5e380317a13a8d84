#pragma once

/// \file
/// Training with 3x3 convolutions by Winograd's filtering.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/convolution_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <cstdint>
#include <optional>

#include "ip2p/core/error.hpp"
#include "ip2p/kernels/cpu/winograd.hpp"
#include "ip2p/nn/convolution.hpp"
#include "ip2p/nn/layers.hpp"
#include "ip2p/nn/module.hpp"

namespace ip2p {

namespace detail {

/// A convolution and its gradient with respect to the input by Winograd's filtering; those of weight and bias by
/// LibTorch, as they are sums over all pixels.
struct WinogradFunction : torch::autograd::Function<WinogradFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, std::int64_t padding) {
    context->save_for_backward({x, weight});
    context->saved_data["padding"] = padding;
    context->saved_data["with_bias"] = bias.has_value();
    return winograd(x, cpu::winograd_weight(weight), bias.value_or(at::Tensor()), padding);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    require(!at::GradMode::is_enabled(),
            "winograd_gradients: expected first derivatives alone, found a graph of the backward pass asked for");
    const auto saved = context->get_saved_variables();
    const auto &x = saved[0], &weight = saved[1];
    const auto padding = context->saved_data["padding"].toInt();
    const bool with_bias = context->saved_data["with_bias"].toBool();
    const auto slope = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    torch::autograd::variable_list result(4);
    if (context->needs_input_grad(0)) {
      const auto tile = cpu::winograd_tile(x.size(2), x.size(3));
      result[0] = cpu::winograd_input_gradient(slope, weight.contiguous(at::MemoryFormat::ChannelsLast), padding, tile);
    }
    const bool asks_bias = with_bias && context->needs_input_grad(2);
    if (context->needs_input_grad(1) || asks_bias) {
      const std::array<std::int64_t, 2> once{1, 1}, around{padding, padding}, none{0, 0};
      const std::array<std::int64_t, 1> channels{weight.size(0)};
      const auto bias_sizes = with_bias ? at::OptionalIntArrayRef(channels) : at::OptionalIntArrayRef();
      auto found = at::convolution_backward(slope, x, weight, bias_sizes, once, around, once, false, none, 1,
                                            {false, context->needs_input_grad(1), asks_bias});
      result[1] = std::get<1>(found);
      result[2] = std::get<2>(found);
    }
    return result;
  }
};

/// `Conv2d::with_gradients` by Winograd's filtering.
inline at::Tensor winograd_with_gradients(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                          std::int64_t padding) {
  // The weights are transformed anew at every step, which costs more than is saved on smaller maps. The batch does not
  // count, so that its division into parts does not change the form.
  constexpr std::int64_t least_pixels = 128;
  if (x.size(2) * x.size(3) < least_pixels) return convolution(x, weight, bias, 1, padding);
  return WinogradFunction::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt, padding);
}

}  // namespace detail

/// While gradients are computed, a module's 3x3 convolutions of stride 1 in fp32 on a CPU, and their gradients with
/// respect to inputs, are computed by Winograd's filtering where maps have at least 128 pixels: the same real numbers,
/// with 2 to 4 times the rounding error of LibTorch's direct convolution, whose rounding published training has. Only
/// first derivatives can be taken. Weights are best trained in the order that `Parameters` gives them.
inline void winograd_gradients(Module& module, bool on = true) {
  for (auto* layer : module.modules()) {
    if (auto* conv = dynamic_cast<Conv2d*>(layer)) {
      conv->with_gradients = on ? &detail::winograd_with_gradients : nullptr;
    }
  }
}

}  // namespace ip2p
