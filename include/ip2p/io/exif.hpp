#pragma once

/// \file
/// EXIF orientation: reading it from metadata and applying it to pixels.

#include <ip2p/io/image_types.hpp>

#include <cstring>
#include <span>
#include <utility>

namespace ip2p {

/// Orientation 1..8 of an EXIF block (a TIFF structure, with or without the leading "Exif\0\0" of JPEG files), or 1 if
/// the block has none or is damaged: bad metadata is no reason to reject a picture. Source: EXIF 2.32, tag 0x0112.
inline int exif_orientation(std::span<const std::byte> block) {
  if (block.size() >= 6 && std::memcmp(block.data(), "Exif\0\0", 6) == 0) block = block.subspan(6);
  if (block.size() < 8) return 1;
  const auto byte = [&](std::size_t offset) { return std::to_integer<std::uint32_t>(block[offset]); };
  const bool little = byte(0) == 'I' && byte(1) == 'I';
  if (!little && !(byte(0) == 'M' && byte(1) == 'M')) return 1;
  const auto u16 = [&](std::size_t offset) {
    return little ? byte(offset) | byte(offset + 1) << 8 : byte(offset) << 8 | byte(offset + 1);
  };
  const auto u32 = [&](std::size_t offset) {
    return little ? u16(offset) | u16(offset + 2) << 16 : u16(offset) << 16 | u16(offset + 2);
  };
  if (u16(2) != 42) return 1;
  const std::size_t directory = u32(4);
  if (directory > block.size() - 2) return 1;
  const std::size_t entries = u16(directory);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t offset = directory + 2 + entry * 12;
    if (offset + 12 > block.size()) return 1;
    if (u16(offset) != 0x0112) continue;
    constexpr std::uint32_t short_type = 3, long_type = 4;
    const std::uint32_t type = u16(offset + 2);
    const std::uint32_t value = type == short_type ? u16(offset + 8) : type == long_type ? u32(offset + 8) : 1;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

/// Turns the picture upright, as PIL's `ImageOps.exif_transpose` does for `orientation` 1..8.
/// Throws `Error` for another orientation or an inconsistent image.
inline Image apply_orientation(Image image, int orientation) {
  require(orientation >= 1 && orientation <= 8, "EXIF orientation: expected 1 to 8, got {}", orientation);
  require_consistent(image, "image to turn upright");
  if (orientation == 1) return image;
  const bool transposed = orientation >= 5;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image upright = detail::blank_image(static_cast<std::uint64_t>(transposed ? image.height : image.width),
                                      static_cast<std::uint64_t>(transposed ? image.width : image.height));
  // The source position of (x, y) is a start corner plus a signed step along each axis.
  const std::ptrdiff_t step_column = from_right ? -3 : 3;
  const std::ptrdiff_t step_row = (from_bottom ? -3 : 3) * image.width;
  const std::uint8_t* corner = image.pixels.data() + (from_right ? (image.width - 1) * 3 : 0) +
                               (from_bottom ? (image.height - 1) * image.width * 3 : 0);
  const std::ptrdiff_t along_x = transposed ? step_row : step_column;
  const std::ptrdiff_t along_y = transposed ? step_column : step_row;
  std::uint8_t* out = upright.pixels.data();
  for (std::int64_t y = 0; y < upright.height; ++y) {
    for (std::int64_t x = 0; x < upright.width; ++x, out += 3) {
      std::memcpy(out, corner + y * along_y + x * along_x, 3);
    }
  }
  return upright;
}

}  // namespace ip2p
