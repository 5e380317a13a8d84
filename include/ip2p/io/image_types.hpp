#pragma once

/// \file
/// The 8-bit RGB picture that all readers produce and all writers accept, and the limits applied when reading.

#include <ip2p/core/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ip2p {

/// An 8-bit RGB picture: `pixels[(y * width + x) * 3 + channel]`, rows from top to bottom.
struct Image {
  std::int64_t width = 0;
  std::int64_t height = 0;  ///< Rows.
  std::vector<std::uint8_t> pixels;

  friend bool operator==(const Image&, const Image&) = default;
};

/// What to do with an alpha channel.
enum class Alpha {
  drop,   ///< Keep the stored colours, as PIL's `convert("RGB")` does.
  white,  ///< Composite over white, with PIL's 8-bit rounding.
};

/// How pictures are read. The limits are checked against the header, before any memory for pixels is allocated.
struct ReadOptions {
  /// Largest width x height accepted. 64 Mpx is more than common cameras produce; 16 Mpx suits a web service.
  std::int64_t max_pixels = 64'000'000;
  /// Largest ratio of the longer side to the shorter. The released size rule never makes the short side less than 64,
  /// so 1 x 65535 would be edited at 64 x 4194240; a ratio of 64:1 gives 64 x 4096, as many pixels as a 512 x 512 edit.
  double max_aspect = 64;
  /// Turns the picture upright according to its EXIF orientation. Set to false to match the released code.
  bool apply_exif = true;
  Alpha alpha = Alpha::drop;  ///< What becomes of an alpha channel.
  /// Largest file read, in bytes.
  std::int64_t max_file_bytes = std::int64_t{1} << 30;
};

/// Throws `Error` unless `image` has positive sides and exactly width x height x 3 bytes. \param what names it in
/// messages
inline void require_consistent(const Image& image, std::string_view what) {
  constexpr std::int64_t largest_side = std::int64_t{1} << 30;  // so that width * height * 3 fits in 64 bits
  require(image.width > 0 && image.height > 0 && image.width <= largest_side && image.height <= largest_side,
          "{}: expected positive width and height, got {}x{}", what, image.width, image.height);
  const auto expected = static_cast<std::uint64_t>(image.width) * static_cast<std::uint64_t>(image.height) * 3;
  require(image.pixels.size() == expected, "{}: expected {} bytes for {}x{} RGB, got {}", what, expected, image.width,
          image.height, image.pixels.size());
}

namespace detail {

/// Throws `Error` for a header's size that is zero, exceeds the pixel limit, or is too long and thin.
inline void require_limits(std::uint64_t width, std::uint64_t height, std::string_view name,
                           const ReadOptions& options) {
  require(width > 0 && height > 0, "{}: the header gives an empty picture of {}x{} pixels", name, width, height);
  require(width < (1u << 31) && height < (1u << 31), "{}: the header gives an impossible size of {}x{} pixels", name,
          width, height);
  require(width * height <= static_cast<std::uint64_t>(std::max<std::int64_t>(options.max_pixels, 0)),
          "{}: {}x{} pixels are more than the limit of {} pixels", name, width, height, options.max_pixels);
  const double aspect = static_cast<double>(std::max(width, height)) / static_cast<double>(std::min(width, height));
  require(aspect <= options.max_aspect, "{}: {}x{} pixels have an aspect ratio of {:.1f}:1, the limit is {:g}:1", name,
          width, height, aspect, options.max_aspect);
}

/// An all-black picture of the given size.
inline Image blank_image(std::uint64_t width, std::uint64_t height) {
  return {static_cast<std::int64_t>(width), static_cast<std::int64_t>(height),
          std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
}

/// One colour value composited over white, rounded like PIL's `Image.paste` with a mask.
inline std::uint8_t over_white(std::uint32_t colour, std::uint32_t alpha) {
  const std::uint32_t sum = colour * alpha + 255 * (255 - alpha) + 128;
  return static_cast<std::uint8_t>((sum + (sum >> 8)) >> 8);
}

/// Converts `count` RGBA pixels to RGB, treating the alpha channel as `alpha` says.
inline void rgba_to_rgb(const std::uint8_t* rgba, std::uint8_t* rgb, std::size_t count, Alpha alpha) {
  for (std::size_t i = 0; i < count; ++i, rgba += 4, rgb += 3) {
    for (int channel = 0; channel < 3; ++channel) {
      rgb[channel] = alpha == Alpha::drop ? rgba[channel] : over_white(rgba[channel], rgba[3]);
    }
  }
}

}  // namespace detail
}  // namespace ip2p
