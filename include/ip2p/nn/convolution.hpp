#pragma once

/// \file
/// The convolution used by all layers here.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <cstdint>
#include <optional>

#include "ip2p/core/autocast.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p::detail {

/// `weight` in the dtype of `x`: itself, or a temporary copy if weights are stored in a narrower dtype. Under autocast
/// an fp32 weight stays as it is, whatever x is: autocast itself narrows the weights of products, and norms want fp32.
inline at::Tensor weight_for(const at::Tensor& x, const at::Tensor& weight) {
  if (!weight.defined() || weight.scalar_type() == x.scalar_type()) return weight;
  const bool autocast = (x.is_cpu() || x.is_cuda()) && at::autocast::is_autocast_enabled(x.device().type());
  return autocast && weight.scalar_type() == at::kFloat ? weight : weight.to(x.scalar_type());
}

/// The same for an optional bias.
inline std::optional<at::Tensor> bias_for(const at::Tensor& x, const at::Tensor& bias) {
  return bias.defined() ? std::optional<at::Tensor>(weight_for(x, bias)) : std::nullopt;
}

/// The dtype in which `at::conv2d` computes on a CPU: that of x, or autocast's.
inline at::ScalarType convolution_dtype(const at::Tensor& x) {
  const bool cast = x.scalar_type() != at::kDouble && at::autocast::is_autocast_enabled(at::kCPU);
  return cast ? at::autocast::get_autocast_dtype(at::kCPU) : x.scalar_type();
}

/// Whether this convolution must be computed in fp32 to get its gradients right. On CPUs with 16-bit arithmetic,
/// LibTorch occasionally returns NaN gradients for bf16 convolutions over a map smaller than the kernel (seen with
/// LibTorch 2.11 and avx512_bf16, 3x3 with stride 2 over 1x1). Such maps have only a few pixels, so fp32 costs almost
/// nothing.
inline bool gradients_need_fp32(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!at::GradMode::is_enabled() || !x.is_cpu()) return false;
  if (x.size(2) >= weight.size(2) && x.size(3) >= weight.size(3)) return false;
  if (!x.requires_grad() && !weight.requires_grad() && !(bias.defined() && bias.requires_grad())) return false;
  const auto dtype = convolution_dtype(x);
  return dtype == at::kBFloat16 || dtype == at::kHalf;
}

/// Convolves x [B, in, h, w] with a plain (not packed) weight [out, in, k, k] of any dtype; respects autocast.
/// \param bias [out] or undefined  \return [B, out, h', w'] in the dtype of x or autocast's
inline at::Tensor convolution(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                              std::int64_t stride, std::int64_t padding) {
  if (gradients_need_fp32(x, weight, bias)) {
    const auto dtype = convolution_dtype(x);
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
    const auto wide = x.to(at::kFloat);
    return at::conv2d(wide, weight_for(wide, weight), bias_for(wide, bias), stride, padding).to(dtype);
  }
  return at::conv2d(x, weight_for(x, weight), bias_for(x, bias), stride, padding);
}

}  // namespace ip2p::detail
