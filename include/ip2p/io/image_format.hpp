#pragma once

/// \file
/// Detects a picture's format from its content, never from its file name.

#include <ip2p/core/error.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace ip2p {

/// The picture formats that can be read and written.
/// `png` is written without loss, `jpeg` and `webp` with some; all three are read.
enum class ImageFormat { png, jpeg, webp };

namespace detail {

/// A name for unsupported content: other picture formats, and things that users pass by accident. Empty if it is not
/// recognised.
inline std::string_view foreign_content(std::string_view head) {
  using namespace std::string_view_literals;
  struct Magic {
    std::string_view bytes, name;
  };
  static constexpr std::array magics{
      Magic{"GIF8"sv, "GIF"},
      Magic{"II*\0"sv, "TIFF"},
      Magic{"MM\0*"sv, "TIFF"},
      Magic{"II+\0"sv, "TIFF"},
      Magic{"MM\0+"sv, "TIFF"},
      Magic{"\0\0\0\x0cJXL \r\n\x87\n"sv, "JPEG XL"},
      Magic{"\xff\x0a"sv, "JPEG XL"},
      Magic{"\0\0\0\x0cjP  \r\n\x87\n"sv, "JPEG 2000"},
      Magic{"\xff\x4f\xff\x51"sv, "JPEG 2000"},
      Magic{"8BPS"sv, "PSD"},
      Magic{"\0\0\1\0"sv, "ICO"},
      Magic{"qoif"sv, "QOI"},
      Magic{"\x76\x2f\x31\x01"sv, "OpenEXR"},
      Magic{"#?RADIANCE"sv, "Radiance HDR"},
      Magic{"%PDF-"sv, "PDF"},
      Magic{"PK\3\4"sv, "a zip archive"},
      Magic{"\x1f\x8b"sv, "gzip data"},
      Magic{"version https://git-lfs"sv, "a git-LFS pointer"},
      Magic{"BM"sv, "BMP"},
  };
  if (head.size() >= 12 && head.substr(4, 4) == "ftyp") {
    const auto brand = head.substr(8, 4);
    if (brand == "avif" || brand == "avis") return "AVIF";
    if (brand.starts_with("he") || brand == "mif1" || brand == "msf1") return "HEIC";
    return "MP4 video";
  }
  if (head.size() >= 3 && head[0] == 'P' && head[1] >= '1' && head[1] <= '7' &&
      std::isspace(static_cast<unsigned char>(head[2]))) {
    return "PNM";
  }
  for (const auto& magic : magics) {
    if (head.starts_with(magic.bytes)) return magic.name;
  }
  std::string text(head.substr(0, std::min<std::size_t>(head.size(), 512)));
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto first = text.find_first_not_of(" \t\r\n\xef\xbb\xbf");
  if (first == std::string::npos) return {};
  const std::string_view start = std::string_view(text).substr(first);
  if (start.starts_with("<!doctype html") || start.starts_with("<html") || start.starts_with("<head")) {
    return "an HTML page";
  }
  if (start.starts_with("<svg") || (start.starts_with("<?xml") && start.find("<svg") != std::string::npos))
    return "SVG";
  if (start.starts_with("<?xml")) return "XML";
  if (start.starts_with("{\"")) return "JSON";
  return {};
}

}  // namespace detail

/// The format of `content`, detected from its first bytes (64 are enough for everything but text).
/// Throws `Error` for an empty file and for anything that is not PNG, JPEG or WebP, saying what it is if it is
/// recognised (another picture format, an HTML page, a git-LFS pointer). `name` is the file's name in messages.
inline ImageFormat sniff_image_format(std::span<const std::byte> content, std::string_view name) {
  using namespace std::string_view_literals;
  const std::string_view head(reinterpret_cast<const char*>(content.data()),
                              std::min<std::size_t>(content.size(), 4096));
  require(!head.empty(), "{}: the file is empty, expected a PNG, JPEG or WebP picture", name);
  if (head.starts_with("\x89PNG\r\n\x1a\n"sv)) return ImageFormat::png;
  if (head.starts_with("\xff\xd8\xff"sv)) return ImageFormat::jpeg;
  if (head.starts_with("RIFF"sv) && head.size() >= 12 && head.substr(8, 4) == "WEBP"sv) return ImageFormat::webp;
  for (const auto magic : {"\x89PNG\r\n\x1a\n"sv, "\xff\xd8\xff"sv}) {
    require(!magic.starts_with(head), "{}: the file is truncated after {} bytes", name, head.size());
  }
  // Text-mode transfers rewrite line endings; the PNG signature is designed to reveal that.
  require(!(head.size() > 4 && head.substr(1, 3) == "PNG"),
          "{}: damaged PNG signature, the file was altered in transfer", name);
  const auto found = detail::foreign_content(head);
  if (!found.empty()) throw_error("{}: unsupported format, got {}, expected PNG, JPEG or WebP", name, found);
  std::string bytes;
  for (const char c : head.substr(0, 8)) bytes += fmt::format(" {:02x}", static_cast<unsigned char>(c));
  throw_error("{}: unsupported format, expected PNG, JPEG or WebP, got a file that begins with{}", name, bytes);
}

}  // namespace ip2p
