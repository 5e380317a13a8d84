#pragma once

/// \file
/// Classifier-free guidance along the text with a separate scale for each image of the batch.

#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/stack.h>

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
    const auto difference = text.sub(null);
    if (count == 1) return null.add(difference.mul(text_scales.front()));
    // The scales are arguments of the kernels: a tensor of them would have to be copied to the device at each step.
    const std::vector<at::Scalar> scales(text_scales.begin(), text_scales.end());
    return null.add(at::stack(at::_foreach_mul(difference.unbind(0), scales)));
  }
};

static_assert(GuidancePolicy<PerImageTextGuidance>);

}  // namespace ip2p
