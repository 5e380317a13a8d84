#pragma once

/// \file
/// Tensors in 8 bits with a common factor, and the product of a linear layer with them.

#include <ATen/ops/_scaled_mm.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/maximum.h>

#include <cstdint>
#include <memory>
#include <tuple>
#include <vector>

#include "ip2p/core/tensor.hpp"

namespace ip2p {

namespace detail {

/// Numbers values * scale. Three bits of a fraction leave errors of up to 1/16 of a number, 2.6 % as a root mean
/// square.
struct Fp8 {
  at::Tensor values;  ///< float8_e4m3fn.
  at::Tensor scale;   ///< fp32, one number, on the same device.
};

/// Largest finite number of float8_e4m3fn.
inline constexpr double fp8_most = 448.0;

/// x in 8 bits, with the scale for which its largest magnitude becomes the largest number there is. The host reads no
/// value. NaN and infinity give NaN. \param x not empty
inline Fp8 to_fp8(const at::Tensor& x) {
  const auto [least, most] = at::aminmax(x);
  // All zeros would have no scale. On a GPU, fp16 numbers are multiplied by an fp16 factor, which must be finite.
  const double smallest = x.scalar_type() == at::kHalf ? fp8_most / 65504.0 : 1e-30;
  const auto largest = at::maximum(most, least.neg()).to(at::kFloat).clamp_min(smallest);
  return {.values = x.mul(largest.reciprocal().mul(fp8_most)).to(at::kFloat8_e4m3fn), .scale = largest.div(fp8_most)};
}

/// x W^T + b with x and W in 8 bits; sums are those of the device's matrix unit.
/// \param x [..., in], not empty  \param weight [out, in], both multiples of 16  \param bias [out] or undefined
/// \return [..., out] in the dtype of x
inline at::Tensor fp8_linear(const at::Tensor& x, const Fp8& weight, const at::Tensor& bias) {
  const auto rows = to_fp8(x.reshape({-1, x.size(-1)}));
  auto y = at::_scaled_mm(rows.values, weight.values.t(), rows.scale, weight.scale, {}, {}, x.scalar_type(),
                          /*use_fast_accum=*/true);
  if (bias.defined()) y.add_(bias.to(y.scalar_type()));
  auto sizes = x.sizes().vec();
  sizes.back() = weight.values.size(0);
  return y.view(sizes);
}

}  // namespace detail

/// A layer whose product may be computed in 8 bits.
struct Fp8Host {
  virtual ~Fp8Host() = default;

  std::shared_ptr<const detail::Fp8>
      fp8;  ///< Its weight for that, beside the plain one; set by `use_fp8` (nn/fp8.hpp).
};

}  // namespace ip2p
