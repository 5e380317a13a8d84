#pragma once

/// \file
/// Operations on gradients between the backward pass and the update.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>

#include <vector>

#include "ip2p/core/tensor.hpp"

namespace ip2p {

namespace detail {

inline std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return gradients;
}

}  // namespace detail

/// Removes the gradients of `parameters` and frees their memory.
inline void drop_gradients(const std::vector<at::Tensor>& parameters) {
  for (const auto& parameter : parameters) parameter.mutable_grad().reset();
}

/// Multiplies the gradients of `parameters` by `factor`.
inline void scale_gradients(const std::vector<at::Tensor>& parameters, double factor) {
  const at::NoGradGuard no_grad;
  const auto gradients = detail::gradients_of(parameters);
  if (!gradients.empty()) at::_foreach_mul_(gradients, factor);
}

/// Scales the gradients of `parameters` so that their joint L2 norm is at most `limit` (no limit when <= 0).
/// \return the norm before scaling
inline double clip_gradients(const std::vector<at::Tensor>& parameters, double limit) {
  const at::NoGradGuard no_grad;
  const auto gradients = detail::gradients_of(parameters);
  if (gradients.empty()) return 0.0;
  const double norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients))).item<double>();
  if (limit > 0 && norm > limit) at::_foreach_mul_(gradients, limit / norm);
  return norm;
}

}  // namespace ip2p
