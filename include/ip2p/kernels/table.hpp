#pragma once

/// \file
/// The table of fused operators: what the networks' layers and the samplers compute in one pass over memory where a
/// device has a kernel for it, and by LibTorch's own operators elsewhere.
///
/// A layer calls `kernels_for(x).group_norm_silu(...)` (kernels/for_device.hpp). The table of a device is the one that
/// was registered for it (`register_kernels`), or else the library's own.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/upsample_nearest2d.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// What `Kernels::add_layer_norm` returns.
struct SumAndNorm {
  at::Tensor sum;     ///< x + residual, in the shape of x.
  at::Tensor normed;  ///< The sum, normalised; its shape and dtype.
};

/// Arguments of `Kernels::guided_step`.
struct GuidedStep {
  /// Places of the coefficients, which are numbers of a tensor so that one captured graph serves all steps of a run.
  enum Coefficient : std::int64_t {
    skip,        ///< c_skip: share of the noisy latents in the estimate of x0.
    out,         ///< c_out: scale of the guided prediction in the estimate.
    step,        ///< (down - sigma) / sigma, where `down` is the noise level that the deterministic part goes to.
    up,          ///< Standard deviation of the added noise; 0 for none.
    next_scale,  ///< c_in at the next noise level.
    weights,     ///< The first of K weights, one of each branch.
  };

  at::Tensor predictions;   ///< [K*B,C,h,w], branch-major, K >= 1; the network's dtype.
  at::Tensor latents;       ///< x [B,C,h,w], dense in NCHW or channels-last order; fp32 as a rule.
  at::Tensor noise;         ///< Shape and dtype of `latents`; undefined for none.
  at::Tensor images;        ///< [D*B,I,h,w], more input channels of each distinct input; undefined for none.
  at::Tensor coefficients;  ///< [5 + K], fp32, contiguous, on the latents' device, in the order of `Coefficient`.
  std::int64_t inputs = 1;  ///< D >= 1: how often the next input is repeated along the batch.
};

/// What `Kernels::guided_step` returns.
struct GuidedStepResult {
  at::Tensor latents;   ///< x at the next noise level; shape and dtype of the latents given.
  at::Tensor estimate;  ///< x0; shape and dtype of the latents given.
  at::Tensor input;     ///< The network's next input [D*B,C+I,h,w], channels-last, in the dtype of the predictions.
};

/// What follows a product, element by element.
enum class Activation {
  gelu,        ///< x Phi(x), by erf.
  gelu_tanh,   ///< The same by tanh, as GPT-2 has it (`gelu_new`).
  quick_gelu,  ///< x sigmoid(1.702 x), as CLIP has it.
};

namespace detail::libtorch {

/// An activation by LibTorch's operators.
inline at::Tensor activated(const at::Tensor& x, Activation activation) {
  if (activation == Activation::quick_gelu) return x * at::sigmoid(1.702 * x);
  return at::gelu(x, activation == Activation::gelu_tanh ? "tanh" : "none");
}

/// `Kernels::linear` by LibTorch's operators.
inline at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         const at::Tensor& residual) {
  auto y = at::linear(x, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt);
  if (!residual.defined()) return y;
  // Autocast may have narrowed the product; the sum has the wider dtype.
  return y.requires_grad() || residual.requires_grad() || y.scalar_type() != residual.scalar_type() ? y + residual
                                                                                                    : y.add_(residual);
}

/// `Kernels::linear_activated` by LibTorch's operators.
inline at::Tensor linear_activated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                   Activation activation) {
  return activated(linear(x, weight, bias, {}), activation);
}

/// `Kernels::attention` by LibTorch's operators.
inline at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal) {
  return at::scaled_dot_product_attention(q, k, v, {}, 0.0, causal);
}

}  // namespace detail::libtorch

/// Fused operators on the tensors of one device.
///
/// What holds for all entries:
/// - Maps are 4-D tensors [B,C,h,w], meant to be channels-last (NHWC in memory); a kernel that wants another memory
///   format, dtype (fp32, bf16 and fp16 are the ones to expect) or alignment than it is given computes with
///   `libtorch_kernels()` instead, so that every entry takes whatever LibTorch's operators take, empty tensors
///   included.
/// - Sums and statistics of bf16 and fp16 are computed in fp32; results have the dtype of the first argument. Under
///   autocast, a kernel may also compute with `libtorch_kernels()`, whose results have the dtypes that autocast gives
///   them: fp32 for normalisations. The convolution or product that follows narrows either to the same numbers.
/// - Parameters (`weight`, `bias`, `add`) have the dtype of the first argument or another; kernels need only handle the
///   same dtype and fp32.
/// - Arguments are not written to. Results are fresh tensors, never views of an argument.
/// - Where a graph is recorded (`at::GradMode::is_enabled()` and an argument requires gradients), the result carries
///   it: a kernel with a backward records its own node, one without computes with `libtorch_kernels()`. The exception
///   is `guided_step`, whose result carries no graph.
/// - Work is queued on the current stream of the device, without synchronisation, allocation aside.
/// - Shapes are the caller's promise, except where an error is named.
struct Kernels {
  /// y = act((x + add - mean) / sqrt(var + eps) * weight + bias), normalised over groups of channels and all pixels.
  /// \param x [B,C,h,w]
  /// \param add [B or 1,C,1,1], for each row and channel, or undefined: a time embedding or a convolution's bias
  /// \param weight, bias [C]
  /// \param groups divides C  \param eps added to the variance (population variance)
  /// \param silu whether act is silu or nothing
  /// \return [B,C,h,w] in the memory format of x
  at::Tensor (*group_norm_silu)(const at::Tensor& x, const at::Tensor& add, const at::Tensor& weight,
                                const at::Tensor& bias, std::int64_t groups, double eps, bool silu);

  /// y = a * gelu(b) with [a, b] = projected + bias and the exact gelu (by erf).
  /// \param projected [..., 2H], contiguous as a rule: the values a in the first half of a row, the gates b in the
  /// second \param bias [2H] or undefined \return [..., H], contiguous
  at::Tensor (*geglu)(const at::Tensor& projected, const at::Tensor& bias);

  /// The sum x + residual and its normalisation over the last axis, (sum - mean) / sqrt(var + eps) * weight + bias.
  /// \param x, residual [..., C], the same shape; of two dtypes, the results have the wider  \param weight, bias [C]
  SumAndNorm (*add_layer_norm)(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                               const at::Tensor& bias, double eps);

  /// x + bias + residual, the end of a residual block.
  /// \param x [B,C,h,w]  \param bias [C] or undefined  \param residual [B,C,h,w] or undefined
  /// \return [B,C,h,w] in the memory format of x
  at::Tensor (*add_bias_residual)(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual);

  /// One step of Euler's method, plain or ancestral, from the predictions of all branches to the network's next input:
  ///
  ///     guided = sum_k weights[k] * predictions[k]
  ///     x0     = skip * x + out * guided
  ///     x      = x + step * (x - x0) + up * noise
  ///     input  = [next_scale * x, images], x repeated for each distinct input
  ///
  /// computed in the dtype of the latents, at least fp32. \throws Error when shapes do not fit each other
  GuidedStepResult (*guided_step)(const GuidedStep& step);

  /// Every pixel as 2x2 equal ones. \param x [B,C,h,w]  \return [B,C,2h,2w] in the memory format of x
  at::Tensor (*upsample_nearest_2x)(const at::Tensor& x);

  /// softmax(q k^T / sqrt(d)) v of each head, which never stores the softmax.
  /// \param q [B,heads,N,d], views of [B,N,heads*d] as a rule  \param k [B,heads,M,d]  \param v [B,heads,M,c]
  /// \param causal whether query i sees only keys 0 to i  \return [B,heads,N,c], as a rule a view of [B,N,heads*c]
  at::Tensor (*attention)(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          bool causal) = detail::libtorch::attention;

  /// x W^T + bias + residual.
  /// \param x [..., in]  \param weight [out, in]  \param bias [out] or undefined
  /// \param residual [..., out] or undefined  \return [..., out]
  at::Tensor (*linear)(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& residual) = detail::libtorch::linear;

  /// activation(x W^T + bias). \param x [..., in]  \param weight [out, in]  \param bias [out] or undefined
  /// \return [..., out]
  at::Tensor (*linear_activated)(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                 Activation activation) = detail::libtorch::linear_activated;

  /// a * gelu(b) with [a, b] = x W^T + bias, without writing a and b; null, or an undefined result, where that is not
  /// to be had: then `linear` and `geglu` follow each other. \param x [..., in]  \param weight [2H, in]  \param bias
  /// [2H] or undefined  \return [..., H]
  at::Tensor (*linear_geglu)(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) = nullptr;

  /// Whether a convolution's bias costs LibTorch a pass over the result on this device, so that blocks had better leave
  /// it to `group_norm_silu` and `add_bias_residual`. True of cuDNN, false of oneDNN.
  bool bias_apart = false;
};

namespace detail::libtorch {

/// `parameter` in the dtype of x; undefined stays undefined.
inline at::Tensor like(const at::Tensor& x, const at::Tensor& parameter) {
  return parameter.defined() && parameter.scalar_type() != x.scalar_type() ? parameter.to(x.scalar_type()) : parameter;
}

/// `parameter` of a normalisation of x, in the dtype of x. Under autocast it stays as it is, because normalisations are
/// computed in fp32 there.
inline at::Tensor norm_parameter(const at::Tensor& x, const at::Tensor& parameter) {
  return at::autocast::is_autocast_enabled(x.device().type()) ? parameter : like(x, parameter);
}

/// `Kernels::group_norm_silu` by LibTorch's operators.
inline at::Tensor group_norm_silu(const at::Tensor& x, const at::Tensor& add, const at::Tensor& weight,
                                  const at::Tensor& bias, std::int64_t groups, double eps, bool silu) {
  auto y = at::group_norm(add.defined() ? x + like(x, add) : x, groups, norm_parameter(x, weight),
                          norm_parameter(x, bias), eps);
  if (!silu) return y;
  return y.requires_grad() ? at::silu(y) : at::silu_(y);
}

/// `Kernels::geglu` by LibTorch's operators.
inline at::Tensor geglu(const at::Tensor& projected, const at::Tensor& bias) {
  const auto halves = (bias.defined() ? projected + like(projected, bias) : projected).chunk(2, -1);
  auto gate = at::gelu(halves[1]);
  return gate.requires_grad() || halves[0].requires_grad() ? halves[0] * gate : gate.mul_(halves[0]);
}

/// `Kernels::add_layer_norm` by LibTorch's operators.
inline SumAndNorm add_layer_norm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                                 const at::Tensor& bias, double eps) {
  auto sum = x + residual;
  auto normed = at::layer_norm(sum, weight.sizes(), norm_parameter(sum, weight), norm_parameter(sum, bias), eps);
  return {std::move(sum), std::move(normed)};
}

/// `Kernels::add_bias_residual` by LibTorch's operators.
inline at::Tensor add_bias_residual(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual) {
  if (!bias.defined()) return residual.defined() ? x + residual : x.clone();
  auto y = x + like(x, bias).view({1, -1, 1, 1});
  if (!residual.defined()) return y;
  return y.requires_grad() || residual.requires_grad() ? y + residual : y.add_(residual);
}

/// Refuses arguments of a guided step that do not fit each other. \return K, the number of branches
inline std::int64_t branches_of(const GuidedStep& step) {
  const auto& x = step.latents;
  const auto& all = step.predictions;
  require(x.defined() && x.dim() == 4 && x.size(0) > 0, "guided_step: latents: expected [B,C,h,w] with B > 0, found {}",
          tensor_text(x));
  require(all.defined() && all.dim() == 4 && all.size(0) > 0 && all.size(0) % x.size(0) == 0 &&
              all.sizes().slice(1) == x.sizes().slice(1),
          "guided_step: predictions: expected a multiple of the rows of {}, found {}", shape_text(x.sizes()),
          tensor_text(all));
  require(!step.noise.defined() || step.noise.sizes() == x.sizes(), "guided_step: noise: expected {}, found {}",
          shape_text(x.sizes()), tensor_text(step.noise));
  require(step.inputs >= 1, "guided_step: inputs: expected at least 1, found {}", step.inputs);
  require(!step.images.defined() || (step.images.dim() == 4 && step.images.size(0) == step.inputs * x.size(0) &&
                                     step.images.sizes().slice(2) == x.sizes().slice(2)),
          "guided_step: images: expected [{},I,{},{}], found {}", step.inputs * x.size(0), x.size(2), x.size(3),
          tensor_text(step.images));
  const auto branches = all.size(0) / x.size(0);
  require(step.coefficients.defined() && step.coefficients.dim() == 1 &&
              step.coefficients.size(0) == GuidedStep::weights + branches &&
              step.coefficients.scalar_type() == at::kFloat,
          "guided_step: coefficients: expected [{}] of Float, found {}", GuidedStep::weights + branches,
          tensor_text(step.coefficients));
  return branches;
}

/// A network's input: x [B,C,h,w], `copies` times along the batch, with `images` [copies*B,I,h,w], if defined, as
/// further channels; channels-last, in the dtype of x.
inline at::Tensor step_input(const at::Tensor& x, std::int64_t copies, const at::Tensor& images) {
  auto input = at::cat(std::vector<at::Tensor>(static_cast<std::size_t>(copies), x), 0);
  if (images.defined()) input = at::cat({input, images.to(x.scalar_type())}, 1);
  return input.contiguous(at::MemoryFormat::ChannelsLast);
}

/// `Kernels::guided_step` by LibTorch's operators.
inline GuidedStepResult guided_step(const GuidedStep& step) {
  const at::NoGradGuard no_grad;
  const auto branches = branches_of(step);
  const auto& x = step.latents;
  const auto wide = c10::promoteTypes(x.scalar_type(), at::kFloat);
  const auto coefficient = [&](std::int64_t place) { return step.coefficients.select(0, place).to(wide); };
  const auto predictions = step.predictions.unflatten(0, {branches, x.size(0)}).to(wide);
  auto guided = predictions.select(0, 0) * coefficient(GuidedStep::weights);
  for (std::int64_t k = 1; k < branches; ++k) {
    guided.add_(predictions.select(0, k) * coefficient(GuidedStep::weights + k));
  }
  const auto noisy = x.to(wide);
  const auto estimate = noisy * coefficient(GuidedStep::skip) + guided * coefficient(GuidedStep::out);
  auto next = noisy + (noisy - estimate) * coefficient(GuidedStep::step);
  if (step.noise.defined()) next.add_(step.noise.to(wide) * coefficient(GuidedStep::up));
  const auto dtype = step.predictions.scalar_type();
  const auto scaled = (next * coefficient(GuidedStep::next_scale)).to(dtype);
  return {next.to(x.scalar_type()), estimate.to(x.scalar_type()), step_input(scaled, step.inputs, step.images)};
}

/// `Kernels::upsample_nearest_2x` by LibTorch's operators.
inline at::Tensor upsample_nearest_2x(const at::Tensor& x) {
  return at::upsample_nearest2d(x, at::IntArrayRef{2 * x.size(2), 2 * x.size(3)});
}

}  // namespace detail::libtorch

/// The entries by LibTorch's operators, for any device and dtype.
inline const Kernels& libtorch_kernels() {
  static constexpr Kernels table{.group_norm_silu = detail::libtorch::group_norm_silu,
                                 .geglu = detail::libtorch::geglu,
                                 .add_layer_norm = detail::libtorch::add_layer_norm,
                                 .add_bias_residual = detail::libtorch::add_bias_residual,
                                 .guided_step = detail::libtorch::guided_step,
                                 .upsample_nearest_2x = detail::libtorch::upsample_nearest_2x};
  return table;
}

namespace detail {

/// Whether a result of these arguments must carry a graph.
template <class... Tensors>
bool records_graph(const Tensors&... arguments) {
  return at::GradMode::is_enabled() && (... || (arguments.defined() && arguments.requires_grad()));
}

/// The tables that were registered, by device type.
inline std::array<std::atomic<const Kernels*>, c10::COMPILE_TIME_MAX_DEVICE_TYPES> registered_tables{};

}  // namespace detail

/// Makes `table` the one for tensors of a device type, in all translation units and threads; null: the library's own
/// again. The table must outlive its use, e.g. as a static constant; start from `libtorch_kernels()` for what it lacks.
/// \return the table that was registered before, or null
inline const Kernels* register_kernels(c10::DeviceType device, const Kernels* table) {
  return detail::registered_tables[static_cast<std::size_t>(device)].exchange(table, std::memory_order_acq_rel);
}

/// The table that is registered for a device type, or null.
inline const Kernels* registered_kernels(c10::DeviceType device) {
  return detail::registered_tables[static_cast<std::size_t>(device)].load(std::memory_order_acquire);
}

}  // namespace ip2p
