#pragma once

/// \file
/// Distances between two sets of pictures, from the features of any network: the Frechet distance (Heusel et al. 2017)
/// and the kernel distance (Binkowski et al. 2018).

#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigh.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/core/sample_random.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Mean and covariance of a set's features, fp64.
struct FeatureStatistics {
  at::Tensor mean;        ///< [D]
  at::Tensor covariance;  ///< [D, D], divided by N - 1.
};

/// Mean and covariance of features. \param features [N, D], N >= 2  \throws Error for another shape and for non-finite
/// values
inline FeatureStatistics feature_statistics(const at::Tensor& features) {
  require(features.dim() == 2 && features.size(0) >= 2 && features.size(1) >= 1,
          "features: expected [N, D] with N >= 2, found {}", shape_text(features.sizes()));
  const auto x = features.detach().to(at::kCPU, at::kDouble);
  require(x.isfinite().all().item<bool>(), "features: expected finite values, found NaN or infinity");
  const auto mean = x.mean(0);
  const auto centred = x - mean;
  return {mean, centred.t().matmul(centred) / static_cast<double>(x.size(0) - 1)};
}

/// |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)): this is FID if the features are those of the Inception network.
///
/// The eigenvalues of S1 S2 are those of the symmetric S1^(1/2) S2 S1^(1/2), whose roots are real at any rank, so no
/// diagonal offset is needed with fewer pictures than features.
/// \throws Error for features of different widths
inline double frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b) {
  require(a.mean.sizes() == b.mean.sizes(), "frechet distance: expected features of one width, found {} and {}",
          shape_text(a.mean.sizes()), shape_text(b.mean.sizes()));
  const auto [values, vectors] = at::linalg_eigh(a.covariance);
  const auto root = vectors * values.clamp_min(0).sqrt();  // S1 = root root^T
  const auto [products, unused] = at::linalg_eigh(root.t().matmul(b.covariance).matmul(root));
  const double cross = products.clamp_min(0).sqrt().sum().item<double>();
  return (a.mean - b.mean).pow(2).sum().item<double>() + a.covariance.trace().item<double>() +
         b.covariance.trace().item<double>() - 2.0 * cross;
}

/// The same from features, [N, D] and [M, D].
inline double frechet_distance(const at::Tensor& a, const at::Tensor& b) {
  return frechet_distance(feature_statistics(a), feature_statistics(b));
}

/// Unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3; may be negative.
/// \param a [N, D] and \param b [M, D], N and M >= 2  \throws Error for other shapes
inline double kernel_distance(const at::Tensor& a, const at::Tensor& b) {
  require(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(1) && a.size(0) >= 2 && b.size(0) >= 2,
          "kernel distance: expected [N, D] and [M, D] with N and M >= 2, found {} and {}", shape_text(a.sizes()),
          shape_text(b.sizes()));
  const auto x = a.detach().to(at::kCPU, at::kDouble), y = b.detach().to(at::kCPU, at::kDouble);
  const auto kernel = [](const at::Tensor& p, const at::Tensor& q) {
    return (p.matmul(q.t()) / static_cast<double>(p.size(1)) + 1.0).pow(3);
  };
  const auto off_diagonal = [&](const at::Tensor& p) {
    const auto k = kernel(p, p);
    const auto n = static_cast<double>(p.size(0));
    return (k.sum() - k.trace()).item<double>() / (n * (n - 1));
  };
  return off_diagonal(x) + off_diagonal(y) - 2.0 * kernel(x, y).mean().item<double>();
}

/// Settings of `kernel_distance` over subsets; the defaults are those usual for KID.
struct SubsetOptions {
  std::int64_t subsets = 100;
  std::int64_t size = 1000;  ///< Pictures in a subset, from each set.
  std::uint64_t seed = 0;    ///< Of the subsets.
};

/// Mean and spread of a distance over subsets.
struct SubsetDistance {
  double mean = 0.0;       ///< Over the subsets.
  double deviation = 0.0;  ///< Over the subsets, divided by their number.
};

/// KID: `kernel_distance` over subsets of both sets, drawn without replacement and determined by the seed.
/// \throws Error for sets smaller than a subset
inline SubsetDistance kernel_distance(const at::Tensor& a, const at::Tensor& b, const SubsetOptions& options) {
  require(options.subsets >= 1 && options.size >= 2, "kernel distance: expected subsets of at least 2, found {} of {}",
          options.subsets, options.size);
  const auto draw = [&](const at::Tensor& set, std::int64_t subset, std::uint64_t which) {
    require(set.dim() == 2 && set.size(0) >= options.size,
            "kernel distance: expected at least {} features for a subset, found {}", options.size,
            shape_text(set.sizes()));
    SampleRandom random(options.seed, static_cast<std::uint64_t>(subset), which);
    std::vector<std::int64_t> places(static_cast<std::size_t>(set.size(0)));
    std::iota(places.begin(), places.end(), std::int64_t{0});
    auto rows = at::empty({options.size}, at::kLong);
    for (std::int64_t i = 0; i < options.size; ++i) {  // the first steps of a Fisher-Yates shuffle
      std::swap(places[static_cast<std::size_t>(i)],
                places[static_cast<std::size_t>(i + random.below(set.size(0) - i))]);
      rows.data_ptr<std::int64_t>()[i] = places[static_cast<std::size_t>(i)];
    }
    return set.index_select(0, rows.to(set.device()));
  };
  double sum = 0.0, squares = 0.0;
  for (std::int64_t subset = 0; subset < options.subsets; ++subset) {
    const double distance = kernel_distance(draw(a, subset, 0), draw(b, subset, 1));
    sum += distance;
    squares += distance * distance;
  }
  const auto count = static_cast<double>(options.subsets);
  const double mean = sum / count;
  return {mean, std::sqrt(std::max(squares / count - mean * mean, 0.0))};
}

}  // namespace ip2p
