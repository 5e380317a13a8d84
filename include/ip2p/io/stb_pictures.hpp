#pragma once

/// \file
/// Pictures read by stb_image: BMP, GIF (the first frame), TGA, PNM and Radiance HDR. It silently fills in the missing
/// parts of a damaged file with black, so the length of everything is checked first.

#include <ip2p/io/image_types.hpp>
#include <ip2p/io/stb.hpp>
#include <ip2p/io/whole_pictures.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p::detail {

/// Appends what stb writes to the vector of bytes behind `sink`.
inline void stb_on_write(void* sink, void* bytes, int count) {
  const auto* first = static_cast<const std::byte*>(bytes);
  auto& encoded = *static_cast<std::vector<std::byte>*>(sink);
  encoded.insert(encoded.end(), first, first + count);
}

/// Decodes with stb a file whose damage was looked for before. \param format its name in messages
/// \param may_be_clear whether there may be alpha that its header does not tell
/// \throws Error for what stb refuses, and for a picture beyond the limits
inline Picture stb_picture(std::span<const std::byte> content, std::string_view name, std::string_view format,
                           const ReadOptions& options, Depth depth, bool may_be_clear = false) {
  require(content.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()),
          "{}: expected a {} file of less than 2 GiB, got {} bytes", name, format, content.size());
  const auto* bytes = reinterpret_cast<const stb::stbi_uc*>(content.data());
  const int size = static_cast<int>(content.size());
  int width = 0, height = 0, channels = 0;
  const auto why = [] {
    const char* reason = stb::stbi_failure_reason();
    return std::string_view(reason != nullptr ? reason : "no reason given");
  };
  require(stb::stbi_info_from_memory(bytes, size, &width, &height, &channels) != 0,
          "{}: corrupt or unusual {}: its header is not understood", name, format);
  require_limits(static_cast<std::uint64_t>(std::max(width, 0)), static_cast<std::uint64_t>(std::max(height, 0)), name,
                 options);
  const bool with_alpha = options.alpha != Alpha::drop && (may_be_clear || channels == 2 || channels == 4);
  const int wanted = with_alpha ? 4 : 3;
  const auto values =
      static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * static_cast<std::size_t>(wanted);
  std::vector<std::uint8_t> levels;
  if (depth == Depth::used && stb::stbi_is_16_bit_from_memory(bytes, size) != 0) {
    const std::unique_ptr<stb::stbi_us, void (*)(void*)> wide(
        stb::stbi_load_16_from_memory(bytes, size, &width, &height, &channels, wanted), ::free);
    require(wide != nullptr, "{}: corrupt or unusual {}: {}", name, format, why());
    levels = used_levels({wide.get(), wide.get() + values}, with_alpha);
  } else {
    const std::unique_ptr<stb::stbi_uc, void (*)(void*)> loaded(
        stb::stbi_load_from_memory(bytes, size, &width, &height, &channels, wanted), ::free);
    require(loaded != nullptr, "{}: corrupt or unusual {}: {}", name, format, why());
    if (with_alpha) {
      return picture_from_rgba(loaded.get(), static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height));
    }
    levels.assign(loaded.get(), loaded.get() + values);
  }
  if (with_alpha) {
    return picture_from_rgba(levels.data(), static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height));
  }
  return {{width, height, std::move(levels)}, {}};
}

/// Decodes BMP `content` as `stb_picture` does. \throws Error also for a file that is cut off
inline Picture decode_bmp(std::span<const std::byte> content, std::string_view name, const ReadOptions& options) {
  require_whole_bmp(content, name);
  const auto bytes = text_of_bytes(content);
  // Without masks that name opacity, a fourth byte is padding.
  const bool masked = bytes.size() >= 34 && static_cast<unsigned char>(bytes[30]) == 3;
  auto as_stored = options;
  if (!masked) as_stored.alpha = Alpha::drop;
  return stb_picture(content, name, "BMP", as_stored, Depth::high);
}

/// Decodes the first frame of GIF `content`. What it does not cover is clear.
inline Picture decode_gif(std::span<const std::byte> content, std::string_view name, const ReadOptions& options) {
  const auto clear_flags = require_whole_gif(content, name);
  std::vector<std::byte> copy(content.begin(), content.end());
  if (options.alpha == Alpha::drop) {  // stb leaves out what is clear, with its colour
    for (const auto place : clear_flags) copy[place] &= std::byte{0xfe};
  }
  copy[11] = {};  // the background's number: where it is not 0, stb paints what is clear with it
  return stb_picture(copy, name, "GIF", options, Depth::high);
}

/// Decodes TGA `content`, packed or not.
inline Picture decode_tga(std::span<const std::byte> content, std::string_view name, const ReadOptions& options) {
  require_whole_tga(content, name);
  auto picture = stb_picture(content, name, "TGA", options, Depth::high);
  // A fourth byte that the header does not declare as opacity is padding, and mostly 0.
  if (!picture.alpha.empty() && TgaHeader::read(text_of_bytes(content)).opaque) {
    auto as_stored = options;
    as_stored.alpha = Alpha::drop;
    picture = stb_picture(content, name, "TGA", as_stored, Depth::high);
  }
  return picture;
}

/// Decodes binary PNM `content` (P5 or P6); its largest value becomes 255, rounded as in Pillow.
inline Picture decode_pnm(std::span<const std::byte> content, std::string_view name, const ReadOptions& options) {
  const auto header = require_whole_pnm(content, name);
  require_limits(header.width, header.height, name, options);
  if (header.largest == 255) return stb_picture(content, name, "PNM", options, Depth::high);
  // stb takes 255 or 65535 for the largest value, whatever it is.
  Picture picture{blank_image(header.width, header.height), {}};
  const bool wide = header.largest > 255;
  for (std::size_t i = 0; i < picture.image.pixels.size(); ++i) {
    const std::size_t place = header.colour ? i : i / 3;
    const auto stored = wide ? big_endian<2>(header.values, place * 2) : big_endian<1>(header.values, place);
    const double share = static_cast<double>(std::min(stored, header.largest)) / header.largest;
    picture.image.pixels[i] = static_cast<std::uint8_t>(std::nearbyint(share * 255));  // halves to the even number
  }
  return picture;
}

/// Decodes Radiance HDR `content`: values from 0 to 1, with a gamma of 2.2; what is brighter is white.
inline Picture decode_hdr(std::span<const std::byte> content, std::string_view name, const ReadOptions& options) {
  require_whole_hdr(content, name);
  return stb_picture(content, name, "HDR", options, Depth::high);
}

}  // namespace ip2p::detail
