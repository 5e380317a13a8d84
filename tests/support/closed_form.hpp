#pragma once

// The closed forms of tests/parity/make_sampling_fixtures.py and make_solver_fixtures.py.

#include <ATen/ops/tanh.h>

#include <cmath>

#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p::testing {

/// 0.8 tanh(1.3 x) + 0.05 sin(0.01 t + shift), the second term in fp32 as the script has it.
inline at::Tensor closed_form_network(const at::Tensor& x, double t, float shift = 0.0F) {
  const float wave = std::sin(static_cast<float>(t) * 0.01F + shift);
  return at::tanh(x.mul(1.3)).mul(0.8).add(0.05F * wave);
}

/// The estimate 0.8 tanh(x / (1 + sigma)) + 0.1 sin(3 sigma) of clean latents.
inline at::Tensor closed_form_denoiser(const at::Tensor& x, const Step& step) {
  return at::tanh(x.div(1.0 + step.sigma)).mul(0.8).add(0.1 * std::sin(3.0 * step.sigma));
}

}  // namespace ip2p::testing
