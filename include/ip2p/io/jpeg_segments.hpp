#pragma once

/// \file
/// The segments of a JPEG file: what they say about the picture, and whether they are whole.

#include <ip2p/io/exif.hpp>
#include <ip2p/io/png_chunks.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p::detail {

/// What stands before the pixels of a JPEG file.
struct JpegHeader {
  PictureMetadata metadata;
  std::uint32_t width = 0, height = 0;
  int components = 0;  ///< 1 gray, 3 colours, 4 CMYK; 0: no frame was found.
};

/// Reads the segments before the first scan; stops without an error at the first that is damaged.
inline JpegHeader read_jpeg_header(std::span<const std::byte> content) {
  using namespace std::string_view_literals;
  const std::string_view bytes(reinterpret_cast<const char*>(content.data()), content.size());
  JpegHeader header;
  std::vector<std::pair<int, std::string_view>> icc;  // with their numbers
  std::size_t offset = 2;
  while (offset + 4 <= bytes.size()) {
    if (bytes[offset] != '\xff') {  // padding between segments
      ++offset;
      continue;
    }
    const auto marker = static_cast<unsigned char>(bytes[offset + 1]);
    if (marker == 0xff) {
      ++offset;
      continue;
    }
    if (marker == 0x00 || marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {  // without a length
      offset += 2;
      continue;
    }
    if (marker == 0xda || marker == 0xd9) break;
    const std::size_t length = big_endian<2>(bytes, offset + 2);
    if (length < 2 || length > bytes.size() - offset - 2) break;
    const auto data = bytes.substr(offset + 4, length - 2);
    const bool is_frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (is_frame && data.size() >= 6) {
      header.height = big_endian<2>(data, 1);
      header.width = big_endian<2>(data, 3);
      header.components = static_cast<unsigned char>(data[5]);
    } else if (marker == 0xe1 && data.starts_with("Exif\0\0"sv)) {
      // A block that is too long for one segment goes on in the next.
      auto& exif = header.metadata.exif;
      const auto block = bytes_of_text(exif.empty() ? data : data.substr(6));
      exif.insert(exif.end(), block.begin(), block.end());
    } else if (marker == 0xe1 && data.starts_with("http://ns.adobe.com/xap/1.0/\0"sv)) {
      header.metadata.xmp = data.substr("http://ns.adobe.com/xap/1.0/\0"sv.size());
    } else if (marker == 0xe2 && data.starts_with("ICC_PROFILE\0"sv) && data.size() > 14) {
      icc.emplace_back(static_cast<unsigned char>(data[12]), data.substr(14));
    }
    offset += length + 2;
  }
  std::stable_sort(icc.begin(), icc.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& part : icc) {
    const auto block = bytes_of_text(part.second);
    header.metadata.icc.insert(header.metadata.icc.end(), block.begin(), block.end());
  }
  return header;
}

}  // namespace ip2p::detail
