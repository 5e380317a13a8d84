#pragma once

/// \file
/// Operations on gradients between the backward pass and the update.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/fmax.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <cstddef>
#include <string_view>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

namespace detail {

inline std::vector<at::Tensor> stored_gradients(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> gradients;
  for (const auto& parameter : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return gradients;
}

/// Throws `Error` unless each of `tensors` is on the device of its parameter: move a model before you make what trains
/// it.
inline void require_beside(std::string_view who, const std::vector<at::Tensor>& tensors,
                           const std::vector<at::Tensor>& parameters) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (tensors[i].device() == parameters[i].device()) continue;
    throw_error(
        "{}: expected parameters on {}, where its own tensors are, found them on {}: move a model to its device before "
        "making what trains it",
        who, tensors[i].device().str(), parameters[i].device().str());
  }
}

/// The factor that scales gradients of joint norm `norm` down to `limit`, or 1 if they are within it: a scalar like
/// `norm`, fp32. The bits are those that the host would compute in fp64.
inline at::Tensor clip_factor(const at::Tensor& norm, double limit) {
  const auto wide = norm.to(at::kDouble);
  const auto bound = at::full({}, limit, wide.options());
  return bound.div(at::fmax(wide, bound)).to(at::kFloat);  // fmax takes the bound where the norm is no number
}

}  // namespace detail

/// Removes the gradients of `parameters` and frees their memory.
inline void drop_gradients(const std::vector<at::Tensor>& parameters) {
  for (const auto& parameter : parameters) parameter.mutable_grad().reset();
}

/// Multiplies the gradients of `parameters` by `factor`.
inline void scale_gradients(const std::vector<at::Tensor>& parameters, double factor) {
  const at::NoGradGuard no_grad;
  const auto gradients = detail::stored_gradients(parameters);
  if (!gradients.empty()) at::_foreach_mul_(gradients, factor);
}

/// Scales the gradients of `parameters` so that their joint L2 norm is at most `limit` (no limit when <= 0).
/// \return the norm before scaling, a scalar where the gradients are; reading it makes the host wait for a GPU
inline at::Tensor clip_gradients(const std::vector<at::Tensor>& parameters, double limit) {
  const at::NoGradGuard no_grad;
  const auto gradients = detail::stored_gradients(parameters);
  if (gradients.empty()) return at::zeros({});
  const auto norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients)));
  if (!(limit > 0)) return norm;
  if (!norm.is_cpu()) {
    at::_foreach_mul_(gradients, detail::clip_factor(norm, limit));
  } else if (const double value = norm.item<double>(); value > limit) {
    at::_foreach_mul_(gradients, limit / value);  // spares a pass over all gradients where they are short enough
  }
  return norm;
}

}  // namespace ip2p
