#pragma once

/// \file
/// The arithmetic of the backward passes of normalisations, and of activations in the precision that 16-bit results
/// have, on single fp32 numbers, for host and device alike.

#include <cmath>

#include "ip2p/kernels/arithmetic.hpp"

namespace ip2p::arithmetic {

/// sigmoid(x). On the device, `precise` decides between the library's functions and the hardware's approximations,
/// whose relative error of some 2^-20 disappears in 16 bits.
template <bool precise>
IP2P_HOST_DEVICE float sigmoid(float x) {
#ifdef __CUDA_ARCH__
  if constexpr (!precise) return __fdividef(1.0F, 1.0F + __expf(-x));
#endif
  return 1.0F / (1.0F + expf(-x));
}

/// silu(x), or x where `active` is false.
template <bool precise>
IP2P_HOST_DEVICE float silu_if(bool active, float x) {
  return active ? x * sigmoid<precise>(x) : x;
}

/// d silu_if / dx.
template <bool precise>
IP2P_HOST_DEVICE float silu_if_slope(bool active, float x) {
  if (!active) return 1.0F;
  const float s = sigmoid<precise>(x);
  return s * (1.0F + x * (1.0F - s));
}

/// The two means that the gradient of a normalisation subtracts: with g = dL/dnormed * weight over the numbers that
/// were normalised together, mean(g) and mean(g * normed).
struct NormGradient {
  float mean;     ///< mean(g).
  float towards;  ///< mean(g * normed).
  float inverse;  ///< 1 / standard deviation.
};

/// dL/dx of a number whose normalised value is `normed`; g = dL/dnormed * weight.
IP2P_HOST_DEVICE inline float norm_gradient(float g, float normed, const NormGradient& n) {
  return n.inverse * (g - n.mean - normed * n.towards);
}

/// The same summed over `count` numbers of one channel, from its sums of dL/d(normed * weight + bias) and of normed:
/// the gradient of what was added to all of them.
IP2P_HOST_DEVICE inline float norm_gradient_sum(float weight, float gradient_sum, float normed_sum, float count,
                                                const NormGradient& n) {
  return n.inverse * (weight * gradient_sum - count * n.mean - normed_sum * n.towards);
}

}  // namespace ip2p::arithmetic
