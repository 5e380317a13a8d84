#pragma once

/// \file
/// InstructPix2Pix's guidance along the image and along the text.

#include <array>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// Brooks et al. 2023, equation 3, in the operation order of the released code:
/// e = e_null + s_T (e_full - e_image) + s_I (e_image - e_null),
/// where e_full sees text and image, e_image the image and the empty text, e_null a zero image and the empty text.
/// Branches with weight 0 are not evaluated: e_null if s_I = 1, e_image if s_I = s_T, e_full if s_T = 0.
struct DualGuidance {
  /// Text and image, image alone, neither.
  static constexpr std::array<Branch, 3> branches{
      Branch{.text = true, .image = true}, Branch{.text = false, .image = true}, Branch{.text = false, .image = false}};

  double image_scale = 1.5;  ///< s_I: how closely to follow the input image; 1 to 1.5 recommended.
  double text_scale = 7.5;   ///< s_T: how strongly to apply the instruction; 5 to 10 recommended.

  /// `stacked` [3B,C,h,w] in the order of `branches` -> [B,C,h,w].
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& /*step*/) const {
    const auto [full, image, null] = detail::split_branches<3>(stacked);
    return null.add(full.sub(image), text_scale).add(image.sub(null), image_scale);
  }

  /// Of the three branches; their sum is 1.
  [[nodiscard]] std::array<double, 3> weights(const Step& /*step*/) const {
    return {text_scale, image_scale - text_scale, 1.0 - image_scale};
  }
};

static_assert(LinearGuidancePolicy<DualGuidance>);

}  // namespace ip2p
