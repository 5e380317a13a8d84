#pragma once

/// \file
/// Cosine similarities of CLIP features, row by row.

#include <ATen/ops/cosine_similarity.h>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"

namespace ip2p {

/// Cosine similarity of each row of `a` with the same row of `b`.
/// \param a, b [B, D]  \return [B]  \throws Error for different shapes
inline at::Tensor feature_similarity(const at::Tensor& a, const at::Tensor& b) {
  require(a.dim() == 2 && a.sizes() == b.sizes(), "features: expected two of one shape [B, D], found {} and {}",
          shape_text(a.sizes()), shape_text(b.sizes()));
  return at::cosine_similarity(a, b, 1);
}

/// Directional similarity (Gal et al. 2022): the cosine of the way from one picture's features to the other's with the
/// way from one caption's to the other's; 0 where one of the ways has no length. All arguments are [B, D]. \return [B]
inline at::Tensor directional_similarity(const at::Tensor& image_before, const at::Tensor& image_after,
                                         const at::Tensor& text_before, const at::Tensor& text_after) {
  require(image_before.sizes() == image_after.sizes() && text_before.sizes() == text_after.sizes(),
          "directional similarity: expected features of one shape before and after, found {} and {}, {} and {}",
          shape_text(image_before.sizes()), shape_text(image_after.sizes()), shape_text(text_before.sizes()),
          shape_text(text_after.sizes()));
  return feature_similarity(image_after - image_before, text_after - text_before);
}

}  // namespace ip2p
