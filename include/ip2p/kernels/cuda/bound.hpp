#pragma once

/// \file
/// The device code as a table of fused operators on tensors (kernels/table.hpp), with gradients.
///
/// What a kernel does not take (another dtype, layout or size) LibTorch's operators compute.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>
#include <optional>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/kernels/cuda/launch.hpp"
#include "ip2p/kernels/cuda/map_plan.cuh"
#include "ip2p/kernels/cuda/phases.cuh"
#include "ip2p/kernels/cuda/tensor_arguments.hpp"
#include "ip2p/kernels/table.hpp"

namespace ip2p::kernels {

namespace detail {

/// A tensor that may be undefined, as a node of autograd takes it.
inline std::optional<at::Tensor> if_defined(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional<at::Tensor>(tensor) : std::nullopt;
}

/// Refuses an error code.
inline void check(Status status, const char* words, const char* what) {
  require(status == 0, "CUDA kernel {}: expected it to be queued, found error {} ({})", what, status, words);
}

/// Refuses to be differentiated twice.
inline void check_once() {
  require(!at::GradMode::is_enabled(),
          "CUDA kernels: expected first derivatives, found a graph asked of the backward pass; "
          "register_kernels(at::kCUDA, nullptr) gives LibTorch's operators back");
}

}  // namespace detail

/// A table's entries over a device. `Device` has
///
///     struct Queue;                                    // what kernels are queued on; see phases.cuh
///     struct Scope { explicit Scope(const at::Tensor&); Queue queue; };   // makes the tensor's device the current one
///     static bool has(const at::Tensor&);              // whether a tensor is on such a device
///     static DeviceLimits limits(const at::Tensor&);
///     static const char* text(Status);
template <class Device>
struct Bound {
  /// `Kernels::group_norm_silu`.
  static at::Tensor group_norm_silu(const at::Tensor& x, const at::Tensor& add, const at::Tensor& weight,
                                    const at::Tensor& bias, std::int64_t groups, double eps, bool silu) {
    const auto possible = [&] {
      if (!ours(x) || !detail::fits_map(x) || !detail::fits_parameter(x, weight, x.size(1)) ||
          !detail::fits_parameter(x, bias, x.size(1))) {
        return false;
      }
      if (add.defined() && (add.dim() != 4 || (add.size(0) != 1 && add.size(0) != x.size(0)) ||
                            !detail::fits_parameter(x, add, add.size(0) * x.size(1)))) {
        return false;
      }
      const MapShape shape{x.size(0), x.size(2) * x.size(3), x.size(1), groups};
      return plan_map(shape, detail::number_of(x), true, Device::limits(x), 1, 2).possible;
    };
    if (!possible()) return libtorch_kernels().group_norm_silu(x, add, weight, bias, groups, eps, silu);
    if (ip2p::detail::records_graph(x, add, weight, bias)) {
      return GroupNorm::apply(x, detail::if_defined(add), detail::if_defined(weight), detail::if_defined(bias), groups,
                              eps, silu);
    }
    return group_norm(x, add, weight, bias, groups, eps, silu, {}, {});
  }

  /// `Kernels::geglu`.
  static at::Tensor geglu(const at::Tensor& projected, const at::Tensor& given_bias) {
    // The bias of a linear layer, which autocast narrows with its weight.
    const bool narrows = projected.defined() && at::autocast::is_autocast_enabled(projected.device().type());
    const auto bias = narrows ? ip2p::detail::libtorch::like(projected, given_bias) : given_bias;
    if (!ours(projected) || !detail::fits(projected) || !projected.is_contiguous() || projected.dim() < 1 ||
        projected.size(-1) % 2 != 0 || projected.numel() / 2 > most_vectors ||
        (bias.defined() && (bias.scalar_type() != projected.scalar_type() ||
                            !detail::fits_parameter(projected, bias, projected.size(-1))))) {
      return libtorch_kernels().geglu(projected, bias);
    }
    if (ip2p::detail::records_graph(projected, bias)) return Gated::apply(projected, detail::if_defined(bias));
    return gated(projected, bias);
  }

  /// `Kernels::add_layer_norm`.
  static SumAndNorm add_layer_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                                   const at::Tensor& bias, double eps) {
    const auto channels = x.dim() > 0 ? x.size(-1) : 0;
    if (!ours(x) || !detail::fits(x) || !x.is_contiguous() || !detail::alike(x, residual) || !weight.defined() ||
        !bias.defined() || !detail::fits_parameter(x, weight, channels) || !detail::fits_parameter(x, bias, channels) ||
        weight.scalar_type() != bias.scalar_type() ||
        (weight.scalar_type() != x.scalar_type() && weight.scalar_type() != at::kFloat)) {
      return libtorch_kernels().add_layer_norm(x, residual, weight, bias, eps);
    }
    if (ip2p::detail::records_graph(x, residual, weight, bias)) {
      auto both = LayerNorm::apply(x, residual, weight, bias, eps);
      return {both[0], both[1]};
    }
    return layer_norm(x, residual, weight, bias, eps, {}, {});
  }

  /// `Kernels::add_bias_residual`.
  static at::Tensor add_bias_residual(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual) {
    if (!ours(x) || !detail::fits_map(x) || !detail::fits_parameter(x, bias, x.size(1)) || x.numel() > most_vectors ||
        (residual.defined() && !detail::alike(x, residual))) {
      return libtorch_kernels().add_bias_residual(x, bias, residual);
    }
    if (ip2p::detail::records_graph(x, bias, residual))
      return BiasAndResidual::apply(x, detail::if_defined(bias), detail::if_defined(residual));
    return biased(x, bias, residual);
  }

  /// `Kernels::guided_step`.
  static GuidedStepResult guided_step(const GuidedStep& step) {
    const auto branches = ip2p::detail::libtorch::branches_of(step);
    const auto given = ours(step.latents) ? arguments_of(step, branches) : std::nullopt;
    if (!given) return libtorch_kernels().guided_step(step);
    const at::NoGradGuard no_grad;
    const auto& x = step.latents;
    const auto channels = x.size(1) + given->image_channels;
    GuidedStepResult result{at::empty_like(x), at::empty_like(x),
                            at::empty({step.inputs * x.size(0), channels, x.size(2), x.size(3)},
                                      step.predictions.options(), at::MemoryFormat::ChannelsLast)};
    auto arguments = *given;
    arguments.next = result.latents.template mutable_data_ptr<float>();
    arguments.estimate = result.estimate.template mutable_data_ptr<float>();
    arguments.input = result.input.mutable_data_ptr();
    const typename Device::Scope scope(x);
    check(kernels::guided_step(arguments, scope.queue), "guided_step");
    return result;
  }

  /// `Kernels::upsample_nearest_2x`.
  static at::Tensor upsample_nearest_2x(const at::Tensor& x) {
    if (!ours(x) || !detail::fits_map(x) || x.numel() > most_vectors || ip2p::detail::records_graph(x)) {
      return libtorch_kernels().upsample_nearest_2x(x);
    }
    auto y =
        at::empty({x.size(0), x.size(1), 2 * x.size(2), 2 * x.size(3)}, x.options(), at::MemoryFormat::ChannelsLast);
    const typename Device::Scope scope(x);
    check(kernels::upsample_nearest_2x(UpsampleArguments{.rows = x.size(0) * x.size(2),
                                                         .width = x.size(3),
                                                         .channels = x.size(1),
                                                         .number = detail::number_of(x),
                                                         .x = x.const_data_ptr(),
                                                         .y = y.mutable_data_ptr()},
                                       scope.queue),
          "upsample_nearest_2x");
    return y;
  }

  /// The entries as a table.
  static const Kernels& table() {
    static constexpr Kernels kernels{.group_norm_silu = Bound::group_norm_silu,
                                     .geglu = Bound::geglu,
                                     .add_layer_norm = Bound::add_layer_norm,
                                     .add_bias_residual = Bound::add_bias_residual,
                                     .guided_step = Bound::guided_step,
                                     .upsample_nearest_2x = Bound::upsample_nearest_2x,
                                     .bias_apart = true};
    return kernels;
  }

 private:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;

  /// Whether kernels may be asked about x at all.
  static bool ours(const at::Tensor& x) { return x.defined() && Device::has(x); }

  static void check(Status status, const char* what) { detail::check(status, Device::text(status), what); }

  static void fill(GroupNormInputs& given, const at::Tensor& x, const at::Tensor& add, const at::Tensor& weight,
                   const at::Tensor& bias, std::int64_t groups, bool silu) {
    given.shape = {x.size(0), x.size(2) * x.size(3), x.size(1), groups};
    given.number = detail::number_of(x);
    given.x = x.const_data_ptr();
    given.add = detail::parameters_of(add);
    given.add_stride = add.defined() && add.size(0) > 1 ? x.size(1) : 0;
    given.weight = detail::parameters_of(weight, 1.0f);
    given.bias = detail::parameters_of(bias);
    given.silu = silu;
  }

  /// \param mean, inverse [B, groups], fp32, written; or undefined
  static at::Tensor group_norm(const at::Tensor& x, const at::Tensor& add, const at::Tensor& weight,
                               const at::Tensor& bias, std::int64_t groups, double eps, bool silu,
                               const at::Tensor& mean, const at::Tensor& inverse) {
    auto y = at::empty_like(x);
    GroupNormForwardArguments given;
    fill(given, x, add, weight, bias, groups, silu);
    given.eps = static_cast<float>(eps);
    given.y = y.mutable_data_ptr();
    if (mean.defined()) {
      given.mean = mean.template mutable_data_ptr<float>();
      given.inverse = inverse.template mutable_data_ptr<float>();
    }
    const typename Device::Scope scope(x);
    const auto plan = plan_of(given, Device::limits(x));
    const auto workspace = detail::workspace_beside(x, workspace_bytes(given, plan));
    check(group_norm_forward(given, plan, workspace.mutable_data_ptr(), scope.queue), "group_norm_silu");
    return y;
  }

  struct GroupNorm : torch::autograd::Function<GroupNorm> {
    static at::Tensor forward(Context* context, const at::Tensor& x, const std::optional<at::Tensor>& given_add,
                              const std::optional<at::Tensor>& given_weight,
                              const std::optional<at::Tensor>& given_bias, std::int64_t groups, double eps, bool silu) {
      const auto add = given_add.value_or(at::Tensor()), weight = given_weight.value_or(at::Tensor()),
                 bias = given_bias.value_or(at::Tensor());
      const auto mean = at::empty({x.size(0), groups}, x.options().dtype(at::kFloat));
      const auto inverse = at::empty_like(mean);
      auto y = group_norm(x, add, weight, bias, groups, eps, silu, mean, inverse);
      context->save_for_backward({x, add, weight, bias, mean, inverse});
      context->saved_data["groups"] = groups;
      context->saved_data["silu"] = silu;
      return y;
    }

    static Tensors backward(Context* context, const Tensors& gradients) {
      detail::check_once();
      const auto saved = context->get_saved_variables();
      const auto &x = saved[0], &add = saved[1], &weight = saved[2], &bias = saved[3];
      const auto dy = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
      const auto dx = at::empty_like(x);
      const auto dadd = add.defined() ? at::empty({x.size(0), x.size(1)}, x.options().dtype(at::kFloat)) : at::Tensor();
      const auto dweight = detail::empty_or_none(weight), dbias = detail::empty_or_none(bias);
      GroupNormBackwardArguments given;
      fill(given, x, add, weight, bias, context->saved_data["groups"].toInt(), context->saved_data["silu"].toBool());
      given.dy = dy.const_data_ptr();
      given.mean = saved[4].template const_data_ptr<float>();
      given.inverse = saved[5].template const_data_ptr<float>();
      given.dx = dx.mutable_data_ptr();
      if (dadd.defined()) given.dadd = dadd.template mutable_data_ptr<float>();
      given.dweight = detail::results_of(dweight);
      given.dbias = detail::results_of(dbias);
      const typename Device::Scope scope(x);
      const auto plan = plan_of(given, Device::limits(x));
      const auto workspace = detail::workspace_beside(x, workspace_bytes(given, plan));
      check(group_norm_backward(given, plan, workspace.mutable_data_ptr(), scope.queue), "group_norm_silu");
      at::Tensor to_add;
      if (add.defined()) {
        to_add = (add.size(0) == 1 ? dadd.sum(0, true) : dadd).to(add.scalar_type()).view(add.sizes());
      }
      return {dx, to_add, dweight, dbias, at::Tensor(), at::Tensor(), at::Tensor()};
    }
  };

  static GegluArguments geglu_arguments(const at::Tensor& projected, const at::Tensor& bias) {
    GegluArguments given;
    given.hidden = projected.size(-1) / 2;
    given.rows = projected.numel() / projected.size(-1);
    given.number = detail::number_of(projected);
    given.projected = projected.const_data_ptr();
    given.bias = detail::address(bias);
    return given;
  }

  static at::Tensor gated(const at::Tensor& projected, const at::Tensor& bias) {
    auto shape = projected.sizes().vec();
    shape.back() /= 2;
    auto y = at::empty(shape, projected.options());
    auto given = geglu_arguments(projected, bias);
    given.result = y.mutable_data_ptr();
    const typename Device::Scope scope(projected);
    check(geglu_forward(given, scope.queue), "geglu");
    return y;
  }

  struct Gated : torch::autograd::Function<Gated> {
    static at::Tensor forward(Context* context, const at::Tensor& projected,
                              const std::optional<at::Tensor>& given_bias) {
      const auto bias = given_bias.value_or(at::Tensor());
      context->save_for_backward({projected, bias});
      return gated(projected, bias);
    }

    static Tensors backward(Context* context, const Tensors& gradients) {
      detail::check_once();
      const auto saved = context->get_saved_variables();
      const auto &projected = saved[0], &bias = saved[1];
      const auto dy = gradients[0].contiguous();
      auto gradient = at::empty_like(projected);
      auto given = geglu_arguments(projected, bias);
      given.dy = dy.const_data_ptr();
      given.result = gradient.mutable_data_ptr();
      const typename Device::Scope scope(projected);
      check(geglu_backward(given, scope.queue), "geglu");
      at::Tensor to_bias;
      if (bias.defined()) to_bias = gradient.view({-1, gradient.size(-1)}).sum(0).view(bias.sizes());
      return {gradient, to_bias};
    }
  };

  /// \param mean, inverse [rows], fp32, written; or undefined
  static SumAndNorm layer_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                               const at::Tensor& bias, double eps, const at::Tensor& mean, const at::Tensor& inverse) {
    SumAndNorm result{at::empty_like(x), at::empty_like(x)};
    LayerNormForwardArguments given;
    given.channels = x.size(-1);
    given.rows = x.numel() / given.channels;
    given.number = detail::number_of(x);
    given.x = x.const_data_ptr();
    given.residual = residual.const_data_ptr();
    given.parameter_number = detail::number_of(weight);
    given.weight = weight.const_data_ptr();
    given.bias = bias.const_data_ptr();
    given.eps = static_cast<float>(eps);
    given.sum = result.sum.mutable_data_ptr();
    given.y = result.normed.mutable_data_ptr();
    if (mean.defined()) {
      given.mean = mean.template mutable_data_ptr<float>();
      given.inverse = inverse.template mutable_data_ptr<float>();
    }
    const typename Device::Scope scope(x);
    check(add_layer_norm_forward(given, scope.queue), "add_layer_norm");
    return result;
  }

  struct LayerNorm : torch::autograd::Function<LayerNorm> {
    static Tensors forward(Context* context, const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                           const at::Tensor& bias, double eps) {
      const auto mean = at::empty({x.numel() / x.size(-1)}, x.options().dtype(at::kFloat));
      const auto inverse = at::empty_like(mean);
      const auto result = layer_norm(x, residual, weight, bias, eps, mean, inverse);
      context->save_for_backward({result.sum, weight, bias, mean, inverse});
      context->set_materialize_grads(false);
      return {result.sum, result.normed};
    }

    static Tensors backward(Context* context, const Tensors& gradients) {
      detail::check_once();
      const auto saved = context->get_saved_variables();
      const auto &sum = saved[0], &weight = saved[1], &bias = saved[2];
      const auto dsum = gradients[0].defined() ? gradients[0].contiguous() : at::Tensor();
      const auto dy = gradients[1].defined() ? gradients[1].contiguous() : at::zeros_like(sum);
      const auto dx = at::empty_like(sum), dweight = at::empty_like(weight), dbias = at::empty_like(bias);
      LayerNormBackwardArguments given;
      given.channels = sum.size(-1);
      given.rows = sum.numel() / given.channels;
      given.number = detail::number_of(sum);
      given.sum = sum.const_data_ptr();
      given.dy = dy.const_data_ptr();
      given.dsum = detail::address(dsum);
      given.weight = detail::parameters_of(weight);
      given.mean = saved[3].template const_data_ptr<float>();
      given.inverse = saved[4].template const_data_ptr<float>();
      given.dx = dx.mutable_data_ptr();
      given.dweight = detail::results_of(dweight);
      given.dbias = detail::results_of(dbias);
      const typename Device::Scope scope(sum);
      const auto workspace = detail::workspace_beside(sum, workspace_bytes(given));
      check(add_layer_norm_backward(given, workspace.mutable_data_ptr(), scope.queue), "add_layer_norm");
      return {dx, dx, dweight, dbias, at::Tensor()};
    }
  };

  static at::Tensor biased(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual) {
    auto y = at::empty_like(x);
    BiasResidualArguments given;
    given.pixels = x.size(0) * x.size(2) * x.size(3);
    given.channels = x.size(1);
    given.number = detail::number_of(x);
    given.x = x.const_data_ptr();
    given.bias = detail::parameters_of(bias);
    given.residual = detail::address(residual);
    given.y = y.mutable_data_ptr();
    const typename Device::Scope scope(x);
    check(kernels::add_bias_residual(given, scope.queue), "add_bias_residual");
    return y;
  }

  struct BiasAndResidual : torch::autograd::Function<BiasAndResidual> {
    static at::Tensor forward(Context* context, const at::Tensor& x, const std::optional<at::Tensor>& given_bias,
                              const std::optional<at::Tensor>& given_residual) {
      const auto bias = given_bias.value_or(at::Tensor()), residual = given_residual.value_or(at::Tensor());
      context->save_for_backward({bias});
      context->saved_data["residual"] = residual.defined();
      return biased(x, bias, residual);
    }

    static Tensors backward(Context* context, const Tensors& gradients) {
      const auto bias = context->get_saved_variables()[0];
      const auto& dy = gradients[0];
      at::Tensor to_bias;
      if (bias.defined()) to_bias = dy.sum(at::IntArrayRef{0, 2, 3}).to(bias.scalar_type()).view(bias.sizes());
      return {dy, to_bias, context->saved_data["residual"].toBool() ? dy : at::Tensor()};
    }
  };

  /// All but the results; nothing for tensors that the kernel does not take.
  static std::optional<GuidedStepArguments> arguments_of(const GuidedStep& step, std::int64_t branches) {
    const auto& x = step.latents;
    const auto device = x.device();
    const auto number = detail::number_of_dtype(step.predictions.scalar_type());
    const bool dense = x.is_contiguous() || x.is_contiguous(at::MemoryFormat::ChannelsLast);
    const bool fit =
        number.has_value() && x.scalar_type() == at::kFloat && dense && x.numel() > 0 &&
        step.predictions.device() == device && step.coefficients.device() == device &&
        step.coefficients.is_contiguous() &&
        (!step.noise.defined() || (step.noise.scalar_type() == at::kFloat && step.noise.device() == device)) &&
        (!step.images.defined() ||
         (step.images.scalar_type() == step.predictions.scalar_type() && step.images.device() == device));
    if (!fit) return std::nullopt;
    const auto latents = detail::map_strides(x), predictions = detail::map_strides(step.predictions);
    const auto noise = step.noise.defined() ? detail::map_strides(step.noise) : MapStrides{};
    const auto images = step.images.defined() ? detail::map_strides(step.images) : MapStrides{};
    if (!latents || !predictions || !noise || !images) return std::nullopt;
    GuidedStepArguments given;
    given.samples = x.size(0);
    given.channels = x.size(1);
    given.pixels = x.size(2) * x.size(3);
    given.image_channels = step.images.defined() ? step.images.size(1) : 0;
    if (given.samples * (given.channels + given.image_channels) * given.pixels > most_vectors) return std::nullopt;
    given.branches = branches;
    given.inputs = step.inputs;
    given.number = *number;
    given.predictions = step.predictions.const_data_ptr();
    given.latents = x.template const_data_ptr<float>();
    given.noise = step.noise.defined() ? step.noise.template const_data_ptr<float>() : nullptr;
    given.images = detail::address(step.images);
    given.coefficients = step.coefficients.template const_data_ptr<float>();
    given.prediction_strides = *predictions;
    given.latent_strides = *latents;
    given.noise_strides = *noise;
    given.image_strides = *images;
    return given;
  }
};

}  // namespace ip2p::kernels
