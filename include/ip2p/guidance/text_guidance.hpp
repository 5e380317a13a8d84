#pragma once

/// \file
/// Classifier-free guidance along the text.

#include <array>

#include "ip2p/guidance/concepts.hpp"

namespace ip2p {

/// Ho and Salimans 2022: e = e_null + s (e_text - e_null). A model with an image input sees the image in both branches.
/// With s = 1 only the text branch is evaluated, with s = 0 only the null branch.
struct TextGuidance {
  static constexpr std::array<Branch, 2> branches{Branch{.text = true, .image = true},
                                                  Branch{.text = false, .image = true}};

  double text_scale = 7.5;  ///< s: how strongly to follow the text.

  /// `stacked` [2B,C,h,w] in the order of `branches` -> [B,C,h,w].
  [[nodiscard]] at::Tensor combine(const at::Tensor& stacked, const Step& /*step*/) const {
    const auto [text, null] = detail::split_branches<2>(stacked);
    return null.add(text.sub(null), text_scale);
  }

  /// Of the two branches; their sum is 1.
  [[nodiscard]] std::array<double, 2> weights(const Step& /*step*/) const { return {text_scale, 1.0 - text_scale}; }
};

static_assert(LinearGuidancePolicy<TextGuidance>);

}  // namespace ip2p
