#pragma once

/// \file
/// Classifier-free guidance along the text with a separate scale for each image of the batch.

#include <ATen/ops/tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "ip2p/guidance/text_guidance.hpp"

namespace ip2p {

/// Ho and Salimans 2022 with scale s_i for image i: e = e_null + s_i (e_text - e_null). The pair generator draws a
/// scale for each pair and runs many pairs as one batch.
struct PerImageTextGuidance {
  /// With the text, and without.
  static constexpr auto branches = TextGuidance::branches;

  std::vector<double> text_scales;  ///< One per image, or one for all.

  /// `stacked` [2B,C,h,w] in the order of `branches` -> [B,C,h,w]. \throws Error for another number of images
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& /*step*/) const {
    const auto [text, null] = detail::split_branches<2>(stacked);
    const auto count = static_cast<std::int64_t>(text_scales.size());
    require(count == 1 || count == text.size(0),
            "PerImageTextGuidance: expected a scale for each of {} images, found {}", text.size(0), count);
    std::vector<std::int64_t> shape(static_cast<std::size_t>(text.dim()), 1);
    shape.front() = count;
    const auto scales = at::tensor(text_scales, at::kDouble).to(text.options()).view(shape);
    return null.add(text.sub(null).mul(scales));
  }
};

static_assert(GuidancePolicy<PerImageTextGuidance>);

}  // namespace ip2p
