#pragma once

/// \file
/// The chunks of a PNG file: what they say about the picture, and whether they are whole.

#include <ip2p/io/crc32.hpp>
#include <ip2p/io/exif.hpp>
#include <ip2p/io/stb.hpp>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p::detail {

/// The big-endian number of `Bytes` bytes at `offset`, which must lie within `bytes`.
template <int Bytes>
std::uint32_t big_endian(std::string_view bytes, std::size_t offset) {
  std::uint32_t value = 0;
  for (int i = 0; i < Bytes; ++i)
    value = value << 8 | static_cast<unsigned char>(bytes[offset + static_cast<std::size_t>(i)]);
  return value;
}

inline std::vector<std::byte> bytes_of_text(std::string_view text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

/// Calls `visit(type, data)` for the chunks of PNG `content`, in order, to IEND. What follows that is ignored.
/// \param check whether the chunks must be whole: false stops at the first that is cut off
/// \throws Error if `check` and a chunk is cut off or has a wrong checksum, or IEND is missing
template <class Visit>
void visit_png_chunks(std::span<const std::byte> content, std::string_view name, bool check, Visit&& visit) {
  const std::string_view bytes(reinterpret_cast<const char*>(content.data()), content.size());
  std::size_t offset = 8;
  while (true) {
    const bool has_head = bytes.size() >= 12 && offset <= bytes.size() - 12;
    const std::size_t length = has_head ? big_endian<4>(bytes, offset) : 0;
    if (!has_head || length > bytes.size() - 12 - offset) {
      require(!check, "{}: corrupt PNG: the file is truncated", name);
      return;
    }
    const auto type = bytes.substr(offset + 4, 4), data = bytes.substr(offset + 8, length);
    if (check) {
      const auto printable = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
      require(std::all_of(type.begin(), type.end(), printable), "{}: corrupt PNG: a chunk without a name", name);
      require(crc32(content.subspan(offset + 4, length + 4)) == big_endian<4>(bytes, offset + 8 + length),
              "{}: corrupt PNG: {}: CRC error", name, type);
    }
    visit(type, data);
    if (type == "IEND") return;
    offset += length + 12;
  }
}

/// A text chunk's keyword and text (tEXt, zTXt or iTXt), or nothing if it is damaged or unpacks to more than 1 MiB.
inline std::optional<std::pair<std::string_view, std::string>> png_text(std::string_view type, std::string_view data) {
  constexpr std::size_t most = std::size_t{1} << 20;
  const auto end = data.find('\0');
  if (end == std::string_view::npos) return {};
  const auto keyword = data.substr(0, end);
  auto text = data.substr(end + 1);
  bool packed = type == "zTXt";
  if (type == "iTXt") {  // a flag and the method of compression, then a language and a translated keyword
    if (text.size() < 2) return {};
    packed = text[0] == 1;
    text.remove_prefix(2);
    for (int part = 0; part < 2; ++part) {
      const auto part_end = text.find('\0');
      if (part_end == std::string_view::npos) return {};
      text.remove_prefix(part_end + 1);
    }
  } else if (packed) {  // the method of compression
    if (text.empty()) return {};
    text.remove_prefix(1);
  }
  if (!packed) return std::pair{keyword, std::string(text.substr(0, most))};
  auto unpacked_text = unpacked(std::as_bytes(std::span(text)), most);
  if (!unpacked_text) return {};
  return std::pair{keyword, std::move(*unpacked_text)};
}

/// The bytes of ImageMagick's "Raw profile": a line that is empty, the profile's kind, its length, and hexadecimal
/// digits in lines. Empty if it is damaged.
inline std::vector<std::byte> raw_profile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  std::vector<std::byte> bytes;
  int digits = 0, value = 0;
  for (const char c : text) {
    if (std::isspace(static_cast<unsigned char>(c)) != 0) continue;
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) return {};
    value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    if (++digits % 2 == 0) bytes.push_back(static_cast<std::byte>(std::exchange(value, 0)));
  }
  return bytes;
}

/// What the chunks of a PNG file say about its picture: eXIf or ImageMagick's text in place of it, XMP, iCCP.
inline PictureMetadata png_metadata(std::span<const std::byte> content, std::string_view name, bool check) {
  PictureMetadata found;
  std::vector<std::byte> raw_exif;
  visit_png_chunks(content, name, check, [&](std::string_view type, std::string_view data) {
    if (type == "eXIf") {
      found.exif = bytes_of_text(data);
    } else if (type == "iCCP") {  // a name, the method of compression, the profile
      const auto end = data.find('\0');
      if (end == std::string_view::npos || data.size() < end + 2) return;
      if (auto profile = unpacked(std::as_bytes(std::span(data.substr(end + 2))), std::size_t{1} << 23)) {
        found.icc = bytes_of_text(*profile);
      }
    } else if (type == "tEXt" || type == "zTXt" || type == "iTXt") {
      // The keyword is looked at first, so that no other text is unpacked.
      const bool is_xmp = data.starts_with("XML:com.adobe.xmp"), is_exif = data.starts_with("Raw profile type exif");
      if (!is_xmp && !is_exif) return;
      if (auto text = png_text(type, data)) {
        if (text->first == "XML:com.adobe.xmp" && type == "iTXt") found.xmp = std::move(text->second);
        if (text->first == "Raw profile type exif") raw_exif = raw_profile(text->second);
      }
    }
  });
  if (found.exif.empty()) found.exif = std::move(raw_exif);
  return found;
}

}  // namespace ip2p::detail
