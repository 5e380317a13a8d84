#pragma once

/// \file
/// Orientation: reading it from EXIF and XMP, and applying it to pixels.

#include <ip2p/io/image_types.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p {

namespace detail {

/// What a picture file says about its pixels.
struct PictureMetadata {
  std::vector<std::byte> exif;  ///< A TIFF structure, with or without "Exif\0\0" before it; empty if there is none.
  std::string xmp;              ///< XML; empty if there is none.
  std::vector<std::byte> icc;   ///< A colour profile; empty if there is none.
};

/// The value of the orientation tag, whatever it is, or nothing if an EXIF block has none or is damaged before it.
inline std::optional<std::uint32_t> exif_orientation_tag(std::span<const std::byte> block) {
  if (block.size() >= 6 && std::memcmp(block.data(), "Exif\0\0", 6) == 0) block = block.subspan(6);
  if (block.size() < 8) return {};
  const auto byte = [&](std::size_t offset) { return std::to_integer<std::uint32_t>(block[offset]); };
  const bool little = byte(0) == 'I' && byte(1) == 'I';
  if (!little && !(byte(0) == 'M' && byte(1) == 'M')) return {};
  const auto u16 = [&](std::size_t offset) {
    return little ? byte(offset) | byte(offset + 1) << 8 : byte(offset) << 8 | byte(offset + 1);
  };
  const auto u32 = [&](std::size_t offset) {
    return little ? u16(offset) | u16(offset + 2) << 16 : u16(offset) << 16 | u16(offset + 2);
  };
  if (u16(2) != 42) return {};
  const std::size_t directory = u32(4);
  if (directory > block.size() - 2) return {};
  const std::size_t entries = u16(directory);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t offset = directory + 2 + entry * 12;
    if (offset + 12 > block.size()) return {};
    if (u16(offset) != 0x0112) continue;
    constexpr std::uint32_t short_type = 3, long_type = 4;
    const std::uint32_t type = u16(offset + 2);
    return type == short_type ? u16(offset + 8) : type == long_type ? u32(offset + 8) : 1;
  }
  return {};
}

/// The first `tiff:Orientation` of an XMP packet, as an attribute or an element, or nothing.
inline std::optional<std::uint32_t> xmp_orientation(std::string_view xmp) {
  constexpr std::string_view key = "tiff:Orientation";
  for (auto found = xmp.find(key); found != std::string_view::npos; found = xmp.find(key, found + 1)) {
    auto value = xmp.substr(found + key.size());
    if (value.starts_with("=\"") || value.starts_with("='")) {
      value.remove_prefix(2);
    } else if (value.starts_with(">")) {
      value.remove_prefix(1);
    } else {
      continue;
    }
    if (!value.empty() && value[0] >= '0' && value[0] <= '9') return static_cast<std::uint32_t>(value[0] - '0');
  }
  return {};
}

}  // namespace detail

/// Orientation 1..8 of an EXIF block (a TIFF structure, with or without the leading "Exif\0\0" of JPEG files), or 1 if
/// the block has none or is damaged: bad metadata is no reason to reject a picture. Source: EXIF 2.32, tag 0x0112.
inline int exif_orientation(std::span<const std::byte> block) {
  const auto value = detail::exif_orientation_tag(block).value_or(1);
  return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
}

namespace detail {

/// Orientation 1..8 where Pillow's `ImageOps.exif_transpose` finds it: in EXIF, or else in XMP.
inline int orientation_of(const PictureMetadata& metadata) {
  auto value = exif_orientation_tag(metadata.exif);
  if (!value) value = xmp_orientation(metadata.xmp);
  return value && *value >= 1 && *value <= 8 ? static_cast<int>(*value) : 1;
}

/// Whether `orientation` exchanges width and height.
constexpr bool is_transposed(int orientation) { return orientation >= 5; }

/// Turns `width` x `height` values of `Bytes` bytes each upright.
template <std::size_t Bytes>
std::vector<std::uint8_t> turned(const std::vector<std::uint8_t>& values, std::int64_t width, std::int64_t height,
                                 int orientation) {
  const bool transposed = is_transposed(orientation);
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  std::vector<std::uint8_t> upright(values.size());
  // The source position of (x, y) is a start corner plus a signed step along each axis.
  constexpr auto bytes = static_cast<std::ptrdiff_t>(Bytes);
  const std::ptrdiff_t step_column = from_right ? -bytes : bytes;
  const std::ptrdiff_t step_row = (from_bottom ? -bytes : bytes) * width;
  const std::uint8_t* corner =
      values.data() + (from_right ? (width - 1) * bytes : 0) + (from_bottom ? (height - 1) * width * bytes : 0);
  const std::ptrdiff_t along_x = transposed ? step_row : step_column;
  const std::ptrdiff_t along_y = transposed ? step_column : step_row;
  std::uint8_t* out = upright.data();
  const auto columns = transposed ? height : width, rows = transposed ? width : height;
  for (std::int64_t y = 0; y < rows; ++y) {
    for (std::int64_t x = 0; x < columns; ++x, out += bytes) {
      std::memcpy(out, corner + y * along_y + x * along_x, Bytes);
    }
  }
  return upright;
}

}  // namespace detail

/// Turns the picture upright, as PIL's `ImageOps.exif_transpose` does for `orientation` 1..8.
/// Throws `Error` for another orientation or an inconsistent image.
inline Image apply_orientation(Image image, int orientation) {
  require(orientation >= 1 && orientation <= 8, "EXIF orientation: expected 1 to 8, got {}", orientation);
  require_consistent(image, "image to turn upright");
  if (orientation == 1) return image;
  image.pixels = detail::turned<3>(image.pixels, image.width, image.height, orientation);
  if (detail::is_transposed(orientation)) std::swap(image.width, image.height);
  return image;
}

}  // namespace ip2p
