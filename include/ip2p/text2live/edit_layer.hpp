#pragma once

/// \file
/// A layer of colours with an opacity, and its compositing.

#include <ATen/ops/tensor.h>

#include "ip2p/core/error.hpp"
#include "ip2p/core/tensor.hpp"
#include "ip2p/core/to_device.hpp"
#include "ip2p/io/image.hpp"

namespace ip2p {

/// The layer that an edit adds to a picture.
struct EditLayer {
  at::Tensor colours;  ///< [1, 3, H, W] in [0, 1]
  at::Tensor alpha;    ///< Opacity, [1, 1, H, W] in [0, 1]; 0 shows what is below.

  /// alpha * colours + (1 - alpha) * below. \param below [1, 3, H, W]  \throws Error for another shape
  [[nodiscard]] at::Tensor over(const at::Tensor& below) const {
    require(below.sizes() == colours.sizes(), "edit layer: expected a picture {} below it, found {}",
            shape_text(colours.sizes()), shape_text(below.sizes()));
    return alpha * colours + (1 - alpha) * below;
  }

  /// The layer over chroma-key green, (0, 177, 64) / 255.
  [[nodiscard]] at::Tensor on_green_screen() const {
    const auto green = at::tensor({0.0, 177.0 / 255.0, 64.0 / 255.0}, at::kFloat).view({1, 3, 1, 1});
    return over(detail::to_device(green, colours.device()).to(colours.scalar_type()).expand_as(colours));
  }
};

/// A picture as input of the losses. \return [1, 3, H, W] in [0, 1]
inline at::Tensor unit_picture(const Image& picture) { return to_tensor(picture).unsqueeze(0).to(at::kFloat).div(255); }

/// Back to 8 bits, rounded. \param picture [1, 1 or 3, H, W] in [0, 1]; one channel gives grey
inline Image picture_of(const at::Tensor& picture) {
  require(picture.dim() == 4 && picture.size(0) == 1 && (picture.size(1) == 1 || picture.size(1) == 3),
          "picture: expected [1, 1 or 3, H, W], found {}", shape_text(picture.sizes()));
  const auto bytes = picture.detach()[0].to(at::kFloat).clamp(0, 1).mul(255).round().to(at::kByte);
  return from_tensor(bytes.expand({3, -1, -1}));
}

}  // namespace ip2p
