#pragma once

/// \file
/// Denoisers with closed-form answers.

#include <cstdint>
#include <utility>

#include "ip2p/core/step.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p::testing {

/// The exact denoiser of data that is a single point: always returns `point`.
class PointMassDenoiser {
 public:
  /// \param point [B,C,h,w], or a shape that broadcasts to the latents'
  explicit PointMassDenoiser(at::Tensor point) : point_(std::move(point)) {}

  /// The point, in the shape and dtype of x.
  at::Tensor operator()(const at::Tensor& x, const Step& /*step*/) {
    ++evaluations_;
    return point_.to(x.options()).expand_as(x).clone();
  }

  /// Number of calls so far.
  [[nodiscard]] std::int64_t evaluations() const { return evaluations_; }

 private:
  at::Tensor point_;
  std::int64_t evaluations_ = 0;
};

/// The exact denoiser of normally distributed data, each element N(mean, deviation^2): the posterior mean
/// (deviation^2 x + sigma^2 mean) / (deviation^2 + sigma^2).
struct GaussianDenoiser {
  double mean = 0.0;
  double deviation = 1.0;

  /// The posterior mean, in the shape and dtype of x.
  at::Tensor operator()(const at::Tensor& x, const Step& step) const {
    const double signal = deviation * deviation;
    const double noise = step.sigma * step.sigma;
    return x.mul(signal / (signal + noise)).add(mean * noise / (signal + noise));
  }
};

}  // namespace ip2p::testing
