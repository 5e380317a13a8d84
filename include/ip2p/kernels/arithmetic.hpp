#pragma once

/// \file
/// The arithmetic of the fused operators on single fp32 numbers, for host and device alike. It knows nothing of
/// LibTorch.

#include <cmath>

#if defined(__CUDACC__) || defined(__HIPCC__)
/// Marks a function that CUDA compiles for host and device.
#define IP2P_HOST_DEVICE __host__ __device__
#else
/// Marks a function that CUDA compiles for host and device.
#define IP2P_HOST_DEVICE
#endif

namespace ip2p::arithmetic {

/// x * sigmoid(x).
IP2P_HOST_DEVICE inline float silu(float x) { return x / (1.0F + expf(-x)); }

/// The exact gelu, x times the probability that a standard normal number lies below x.
IP2P_HOST_DEVICE inline float gelu(float x) { return 0.5F * x * (1.0F + erff(x * 0.70710678118654752F)); }

/// d silu / dx.
IP2P_HOST_DEVICE inline float silu_slope(float x) {
  const float sigmoid = 1.0F / (1.0F + expf(-x));
  return sigmoid * (1.0F + x * (1.0F - sigmoid));
}

/// d gelu / dx.
IP2P_HOST_DEVICE inline float gelu_slope(float x) {
  const float below = 0.5F * (1.0F + erff(x * 0.70710678118654752F));
  return below + x * 0.39894228040143268F * expf(-0.5F * x * x);
}

/// Count, mean and sum of squared deviations of some numbers; all 0 of none.
struct Moments {
  float count = 0.0F;  ///< How many numbers.
  float mean = 0.0F;   ///< Their mean.
  float m2 = 0.0F;     ///< Sum of the squared deviations from it.
};

/// Moments with one number more (Welford 1962).
IP2P_HOST_DEVICE inline Moments with(Moments m, float x) {
  m.count += 1.0F;
  const float delta = x - m.mean;
  m.mean += delta / m.count;
  m.m2 += delta * (x - m.mean);
  return m;
}

/// Moments of the numbers of a and b together (Chan, Golub and LeVeque 1979).
IP2P_HOST_DEVICE inline Moments together(const Moments& a, const Moments& b) {
  const float count = a.count + b.count;
  if (count == 0.0F) return {};
  const float delta = b.mean - a.mean;
  const float share = b.count / count;
  return {count, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.count * share};
}

/// Moments of `count` numbers from the sums of their deviations from `shift` and of the squares of those. Precise where
/// `shift` is near the numbers, e.g. one of them.
IP2P_HOST_DEVICE inline Moments shifted(float count, float shift, float sum, float squares) {
  if (count == 0.0F) return {};
  const float offset = sum / count;
  const float m2 = squares - sum * offset;
  return {count, shift + offset, m2 > 0.0F ? m2 : 0.0F};
}

/// 1 / sqrt(var + eps) of the population variance.
IP2P_HOST_DEVICE inline float inverse_deviation(const Moments& m, float eps) {
  return 1.0F / sqrtf(m.m2 / m.count + eps);
}

/// y = x * scale + shift.
struct Affine {
  float scale;  ///< Factor of x.
  float shift;  ///< Added to it.
};

/// A normalisation as one multiplication and one addition: ((x + add) - mean) * inverse * weight + bias.
IP2P_HOST_DEVICE inline Affine normalisation(float mean, float inverse, float add, float weight, float bias) {
  const float scale = inverse * weight;
  return {scale, (add - mean) * scale + bias};
}

/// Numbers of a step of Euler's method; see `GuidedStep`.
struct EulerCoefficients {
  float skip, out, step, up, next_scale;  ///< Named as the places of `GuidedStep::coefficients`.
};

/// What a step makes of one number.
struct EulerResult {
  float estimate;  ///< x0.
  float next;      ///< x at the next noise level.
  float input;     ///< The same, scaled for the network.
};

/// One number's step; `guided` is the weighted sum of the branches' predictions.
IP2P_HOST_DEVICE inline EulerResult euler(float x, float guided, float noise, const EulerCoefficients& c) {
  const float estimate = c.skip * x + c.out * guided;
  const float next = x + c.step * (x - estimate) + c.up * noise;
  return {estimate, next, c.next_scale * next};
}

}  // namespace ip2p::arithmetic
