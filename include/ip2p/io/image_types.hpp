#pragma once

/// \file
/// The 8-bit RGB picture that all readers produce and all writers accept, and how pictures are read.

#include <ip2p/core/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
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

/// A picture with its opacity, and what was done to read it.
struct Picture {
  Image image;                      ///< Where the picture is not opaque, over the background.
  std::vector<std::uint8_t> alpha;  ///< One value a pixel, 0 clear to 255 opaque; empty: opaque everywhere.
  std::int64_t file_width = 0;      ///< Of the picture in its file, upright; the image is smaller if the file
  std::int64_t file_height = 0;     ///< holds more pixels than `ReadOptions::max_pixels`.
};

/// An sRGB colour: `red`, `green` and `blue`, each 0 to 255.
struct Rgb {
  std::uint8_t red = 255, green = 255, blue = 255;

  friend bool operator==(const Rgb&, const Rgb&) = default;
};

/// What to do with an alpha channel.
enum class Alpha {
  composite,  ///< Composite over `ReadOptions::background`, with PIL's 8-bit rounding.
  drop,       ///< Keep the stored colours, also where they are hidden, as PIL's `convert("RGB")` does.
};

/// What to do with a colour profile.
enum class ColourProfile {
  convert,  ///< Convert to sRGB (needs lcms2; without it, `ReadOptions::warn` is told).
  ignore,   ///< Take the stored numbers for sRGB.
};

/// How pictures are read. The limits are checked against the header, before any memory for pixels is allocated.
struct ReadOptions {
  /// Largest width x height in memory. 64 Mpx is more than common cameras produce; 16 Mpx suits a web service. A JPEG
  /// with more pixels is read at 1/2, 1/4 or 1/8 of its size, so that it fits; other formats are refused.
  std::int64_t max_pixels = 64'000'000;
  /// Largest width x height in a JPEG file. 200 Mpx is what the largest phones' cameras produce. A progressive JPEG
  /// takes up to 6 bytes a pixel of the file (8 for CMYK) while it is read.
  std::int64_t max_file_pixels = 256'000'000;
  /// Largest ratio of the longer side to the shorter. The released size rule never makes the short side less than 64,
  /// so 1 x 65535 would be edited at 64 x 4194240; a ratio of 64:1 gives 64 x 4096, as many pixels as a 512 x 512 edit.
  double max_aspect = 64;
  /// Turns the picture upright according to its metadata, EXIF or XMP. False matches the released code.
  bool apply_exif = true;
  Alpha alpha = Alpha::composite;                 ///< What becomes of an alpha channel.
  Rgb background = {};                            ///< What is seen where a picture is clear: white.
  ColourProfile colour = ColourProfile::convert;  ///< What becomes of a colour profile.
  /// Largest file read, in bytes.
  std::int64_t max_file_bytes = std::int64_t{1} << 30;
  /// Called with one sentence for what was read otherwise than the file asks for, such as a profile that is not
  /// understood or a picture that was made smaller. Empty: not told.
  std::function<void(const std::string&)> warn = {};
};

/// The options that match the released code, PIL's `Image.open(path).convert("RGB")`: as stored, without orientation
/// and profile, and with hidden colours.
inline ReadOptions released_reading() {
  return {.apply_exif = false, .alpha = Alpha::drop, .colour = ColourProfile::ignore};
}

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

/// Throws `Error` for a header's size that is zero, exceeds `max_pixels`, or is too long and thin.
inline void require_limits(std::uint64_t width, std::uint64_t height, std::string_view name, const ReadOptions& options,
                           std::int64_t max_pixels) {
  require(width > 0 && height > 0, "{}: the header gives an empty picture of {}x{} pixels", name, width, height);
  require(width < (1u << 31) && height < (1u << 31), "{}: the header gives an impossible size of {}x{} pixels", name,
          width, height);
  require(width * height <= static_cast<std::uint64_t>(std::max<std::int64_t>(max_pixels, 0)),
          "{}: {}x{} pixels are more than the limit of {} pixels; raise the limit, or make the picture smaller", name,
          width, height, max_pixels);
  const double aspect = static_cast<double>(std::max(width, height)) / static_cast<double>(std::min(width, height));
  require(aspect <= options.max_aspect,
          "{}: {}x{} pixels have an aspect ratio of {:.1f}:1, the limit is {:g}:1; raise the limit, or cut the picture",
          name, width, height, aspect, options.max_aspect);
}

/// The same for a format that is always read in full size.
inline void require_limits(std::uint64_t width, std::uint64_t height, std::string_view name,
                           const ReadOptions& options) {
  require_limits(width, height, name, options, options.max_pixels);
}

/// An all-black picture of the given size.
inline Image blank_image(std::uint64_t width, std::uint64_t height) {
  return {static_cast<std::int64_t>(width), static_cast<std::int64_t>(height),
          std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
}

/// One colour value composited over a background's, rounded like PIL's `Image.paste` with a mask.
inline std::uint8_t over(std::uint32_t background, std::uint32_t colour, std::uint32_t alpha) {
  const std::uint32_t sum = colour * alpha + background * (255 - alpha) + 128;
  return static_cast<std::uint8_t>((sum + (sum >> 8)) >> 8);
}

/// Lays the colours of `picture` over `background` where it is not opaque. The opacity stays in `picture.alpha`.
inline void composite(Picture& picture, Rgb background) {
  std::uint8_t* colour = picture.image.pixels.data();
  for (const std::uint8_t alpha : picture.alpha) {
    if (alpha != 255) {
      colour[0] = over(background.red, colour[0], alpha);
      colour[1] = over(background.green, colour[1], alpha);
      colour[2] = over(background.blue, colour[2], alpha);
    }
    colour += 3;
  }
}

/// A picture from interleaved RGBA pixels; its alpha is empty if all of it is opaque.
inline Picture picture_from_rgba(const std::uint8_t* rgba, std::uint64_t width, std::uint64_t height) {
  Picture picture{blank_image(width, height), std::vector<std::uint8_t>(static_cast<std::size_t>(width * height))};
  std::uint8_t* rgb = picture.image.pixels.data();
  bool clear = false;
  for (auto& alpha : picture.alpha) {
    for (int channel = 0; channel < 3; ++channel) rgb[channel] = rgba[channel];
    alpha = rgba[3];
    clear |= alpha != 255;
    rgb += 3;
    rgba += 4;
  }
  if (!clear) picture.alpha.clear();
  return picture;
}

/// The RGBA pixels of a picture, or nothing if it is opaque.
inline std::vector<std::uint8_t> interleaved_rgba(const Picture& picture) {
  std::vector<std::uint8_t> rgba(picture.alpha.size() * 4);
  const std::uint8_t* rgb = picture.image.pixels.data();
  for (std::size_t i = 0; i < picture.alpha.size(); ++i, rgb += 3) {
    for (std::size_t channel = 0; channel < 3; ++channel) rgba[i * 4 + channel] = rgb[channel];
    rgba[i * 4 + 3] = picture.alpha[i];
  }
  return rgba;
}

/// What becomes of values of 16 bits.
enum class Depth {
  high,  ///< The high byte, as in Pillow.
  used,  ///< The low byte if no value uses the high one: small numbers that were stored in 16 bits.
};

/// Values of 16 bits in 8, as `Depth::used` says. \param with_alpha every fourth value is opacity, which is not asked
/// and always gives its high byte
inline std::vector<std::uint8_t> used_levels(const std::vector<std::uint16_t>& values, bool with_alpha) {
  std::uint16_t largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!with_alpha || i % 4 != 3) largest = std::max(largest, values[i]);
  }
  std::vector<std::uint8_t> levels(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool low = largest < 256 && (!with_alpha || i % 4 != 3);
    levels[i] = static_cast<std::uint8_t>(low ? values[i] : values[i] >> 8);
  }
  return levels;
}

/// Calls `options.warn`, if there is one.
inline void warn(const ReadOptions& options, const std::string& sentence) {
  if (options.warn) options.warn(sentence);
}

}  // namespace detail
}  // namespace ip2p
