#pragma once

/// \file
/// Guidance along the text, then along the image.

#include <array>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// The two conditionings of Brooks et al. 2023 in the opposite order to their equation 3, which takes the image first:
/// e = e_null + s_T (e_text - e_null) + s_I (e_full - e_text),
/// where e_full sees text and image, e_text the text and a zero image, e_null neither.
/// Branches with weight 0 are not evaluated: e_null if s_T = 1, e_text if s_T = s_I, e_full if s_I = 0.
struct TextFirstDualGuidance {
  /// Text and image, text alone, neither.
  static constexpr std::array<Branch, 3> branches{
      Branch{.text = true, .image = true}, Branch{.text = true, .image = false}, Branch{.text = false, .image = false}};

  double image_scale = 1.5;  ///< s_I: how closely to follow the input image.
  double text_scale = 7.5;   ///< s_T: how strongly to apply the text.

  /// `stacked` [3B,C,h,w] in the order of `branches` -> [B,C,h,w].
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& /*step*/) const {
    const auto [full, text, null] = detail::split_branches<3>(stacked);
    return null.add(text.sub(null), text_scale).add(full.sub(text), image_scale);
  }

  /// Of the three branches; their sum is 1.
  [[nodiscard]] std::array<double, 3> weights(const Step& /*step*/) const {
    return {image_scale, text_scale - image_scale, 1.0 - text_scale};
  }
};

static_assert(LinearGuidancePolicy<TextFirstDualGuidance>);

}  // namespace ip2p
