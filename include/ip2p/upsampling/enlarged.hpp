#pragma once

/// \file
/// The edited picture, enlarged.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ip2p/kernels/cpu/threads.hpp"
#include "ip2p/upsampling/concepts.hpp"
#include "ip2p/upsampling/placement.hpp"

namespace ip2p {

/// Enlarges the edited picture by Catmull and Rom's cubic and uses nothing of the photograph but its size. For edits
/// that leave none of its detail, and to compare others with. Edges that the model did not see repeat the last pixel.
struct Enlarged {
  static constexpr bool reads_before = false;  ///< No round trip is computed.

  /// \throws Error as `require_model_edit`
  Image operator()(const Image& photo, const ModelEdit& edit) const {
    require_model_edit(photo, edit, reads_before);
    const auto picture = detail::no_larger_than_seen(edit.after, edit.seen);
    const auto after = detail::unit_values(picture);
    const Placement down(edit.seen.top, edit.seen.bottom, picture.height);
    const Placement across(edit.seen.left, edit.seen.right, picture.width);
    Image result =
        detail::blank_image(static_cast<std::uint64_t>(photo.width), static_cast<std::uint64_t>(photo.height));
    std::vector<Placement::Taps> columns;
    for (std::int64_t x = 0; x < photo.width; ++x) columns.push_back(across.cubic(x));
    detail::in_threads(photo.height, 16, [&](std::int64_t first, std::int64_t end) {
      std::vector<float> row;
      for (std::int64_t y = first; y < end; ++y) {
        detail::row_between(after, static_cast<std::size_t>(picture.width) * 3, down.cubic(y), row);
        auto* out = result.pixels.data() + y * photo.width * 3;
        for (const auto& taps : columns) {
          for (int channel = 0; channel < 3; ++channel) {
            float value = 0;
            for (std::size_t k = 0; k < 4; ++k)
              value += taps.weight[k] * row[static_cast<std::size_t>(taps.index[k] * 3 + channel)];
            *out++ = detail::eight_bits(value);
          }
        }
      }
    });
    return result;
  }
};
static_assert(UpsamplingPolicy<Enlarged>);

}  // namespace ip2p
