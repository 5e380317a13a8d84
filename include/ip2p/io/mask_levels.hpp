#pragma once

/// \file
/// What a picture means as a mask.

#include <ip2p/io/image_types.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace ip2p::detail {

/// What the visible pixels of a picture are like, those that are more opaque than clear.
struct MaskColours {
  bool one_colour = true;   ///< All are about the same.
  std::uint8_t luma = 0;    ///< Of that colour.
  double photographic = 0;  ///< Share of them that is neither nearly black nor nearly white.
  double coloured = 0;      ///< Share of them that is not gray.
  bool any_clear = false;   ///< Whether there are other pixels.

  explicit MaskColours(const Picture& picture) {
    const std::uint8_t* rgb = picture.image.pixels.data();
    std::array<std::uint8_t, 3> least{255, 255, 255}, most{0, 0, 0};
    std::size_t visible = 0, between = 0, colours = 0;
    const std::size_t count = picture.image.pixels.size() / 3;
    for (std::size_t i = 0; i < count; ++i, rgb += 3) {
      if (!picture.alpha.empty() && picture.alpha[i] < 128) {
        any_clear = true;
        continue;
      }
      ++visible;
      for (std::size_t channel = 0; channel < 3; ++channel) {
        least[channel] = std::min(least[channel], rgb[channel]);
        most[channel] = std::max(most[channel], rgb[channel]);
      }
      const auto low = std::min({rgb[0], rgb[1], rgb[2]}), high = std::max({rgb[0], rgb[1], rgb[2]});
      between += high >= 48 && low <= 207;
      colours += high - low > 24;
    }
    if (visible == 0) return;
    for (std::size_t channel = 0; channel < 3; ++channel) one_colour &= most[channel] - least[channel] <= 48;
    luma = luma_of(most[0], most[1], most[2]);
    photographic = static_cast<double>(between) / static_cast<double>(visible);
    coloured = static_cast<double>(colours) / static_cast<double>(visible);
  }

  /// Brightness as in PIL's `convert("L")` (ITU-R 601-2).
  static std::uint8_t luma_of(std::uint32_t red, std::uint32_t green, std::uint32_t blue) {
    return static_cast<std::uint8_t>((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
  }
};

/// The gray picture that `decode_mask` describes.
inline Image mask_of(const Picture& picture, std::string_view name, const ReadOptions& options) {
  const MaskColours colours(picture);
  const std::size_t count = picture.image.pixels.size() / 3;
  const auto& alpha = picture.alpha;
  std::vector<std::uint8_t> levels(count);
  // A photograph has many colours between black and white, a drawn mask few.
  const bool photographic = !colours.one_colour && colours.photographic > 0.25;
  if (colours.any_clear && photographic) {
    for (std::size_t i = 0; i < count; ++i) levels[i] = static_cast<std::uint8_t>(255 - alpha[i]);
    warn(options, fmt::format("{}: a photograph with a hole, which is taken for the mask", name));
  } else if (colours.any_clear && colours.one_colour && colours.luma >= 16) {
    levels = alpha;
  } else {
    const std::uint8_t* rgb = picture.image.pixels.data();
    for (std::size_t i = 0; i < count; ++i, rgb += 3) {
      const std::uint8_t level = MaskColours::luma_of(rgb[0], rgb[1], rgb[2]);
      levels[i] = alpha.empty() ? level : over(0, level, alpha[i]);
    }
    if (photographic && colours.coloured > 0.1) {
      warn(options,
           fmt::format("{}: looks like a photograph, not a mask; its bright half is taken for the mask", name));
    }
  }
  std::array<bool, 256> used{};
  for (const auto level : levels) used[level] = true;
  const auto distinct = std::count(used.begin(), used.end(), true);
  const auto highest = static_cast<std::size_t>(used.rend() - std::find(used.rbegin(), used.rend(), true)) - 1;
  if (highest > 0 && ((distinct == 2 && used[0]) || highest == 1)) {
    for (auto& level : levels) level = level == 0 ? 0 : 255;
  }
  const auto marked = std::count_if(levels.begin(), levels.end(), [](std::uint8_t level) { return level > 127; });
  if (marked == 0) {
    warn(options, fmt::format("{}: the mask is empty: nothing in it is bright, so nothing is changed", name));
  } else if (static_cast<std::size_t>(marked) == count) {
    warn(options, fmt::format("{}: the mask is full: all of it is bright, so everything is changed", name));
  }
  Image mask =
      blank_image(static_cast<std::uint64_t>(picture.image.width), static_cast<std::uint64_t>(picture.image.height));
  for (std::size_t i = 0; i < count; ++i) std::fill_n(mask.pixels.data() + i * 3, 3, levels[i]);
  return mask;
}

}  // namespace ip2p::detail
