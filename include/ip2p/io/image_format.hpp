#pragma once

/// \file
/// Detects a picture's format from its content, never from its file name.

#include <ip2p/core/error.hpp>
#include <ip2p/io/ascii.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace ip2p {

/// The picture formats that can be read. Of these, `png` is written without loss, `jpeg` and `webp` with some;
/// `bmp`, `gif`, `tga`, `psd`, `pnm` and `hdr` are not written.
enum class ImageFormat { png, jpeg, webp, bmp, gif, tga, psd, pnm, hdr };

/// The formats that are read, for messages.
inline constexpr std::string_view readable_formats = "PNG, JPEG, WebP, BMP, GIF, TGA, PSD, PNM or HDR";

namespace detail {

/// A name for unsupported content: other picture formats, and things that users pass by accident. Empty if it is not
/// recognised.
inline std::string_view foreign_content(std::string_view head) {
  using namespace std::string_view_literals;
  struct Magic {
    std::string_view bytes, name;
  };
  static constexpr std::array magics{
      Magic{"II*\0"sv, "TIFF"},
      Magic{"MM\0*"sv, "TIFF"},
      Magic{"II+\0"sv, "TIFF"},
      Magic{"MM\0+"sv, "TIFF"},
      Magic{"\0\0\0\x0cJXL \r\n\x87\n"sv, "JPEG XL"},
      Magic{"\xff\x0a"sv, "JPEG XL"},
      Magic{"\0\0\0\x0cjP  \r\n\x87\n"sv, "JPEG 2000"},
      Magic{"\xff\x4f\xff\x51"sv, "JPEG 2000"},
      Magic{"\0\0\1\0"sv, "ICO"},
      Magic{"qoif"sv, "QOI"},
      Magic{"\x76\x2f\x31\x01"sv, "OpenEXR"},
      Magic{"FUJIFILMCCD-RAW"sv, "a raw photograph"},
      Magic{"%PDF-"sv, "PDF"},
      Magic{"PK\3\4"sv, "a zip archive"},
      Magic{"\x1f\x8b"sv, "gzip data"},
      Magic{"version https://git-lfs"sv, "a git-LFS pointer"},
  };
  if (head.size() >= 12 && head.substr(4, 4) == "ftyp") {
    const auto brand = head.substr(8, 4);
    if (brand == "avif" || brand == "avis") return "AVIF";
    if (brand.starts_with("he") || brand == "mif1" || brand == "msf1") return "HEIC";
    if (brand == "crx ") return "a raw photograph";
    return "MP4 video";
  }
  if (head.size() >= 3 && head[0] == 'P' && head[1] >= '1' && head[1] <= '7' &&
      std::isspace(static_cast<unsigned char>(head[2]))) {
    return "PNM that is not binary gray (P5) or RGB (P6)";
  }
  for (const auto& magic : magics) {
    if (head.starts_with(magic.bytes)) return magic.name;
  }
  const auto text = lower_ascii(head.substr(0, 512));
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

/// The command that converts a file of the format that `foreign_content` or a file name's extension calls `name` to one
/// that is read, as the end of a sentence; empty if there is none.
inline std::string_view conversion_of(std::string_view name) {
  struct Way {
    std::string_view name, command;
  };
  static constexpr std::array ways{
      Way{"TIFF", "; convert it first, for example with ImageMagick: magick photo.tiff photo.png"},
      Way{"JPEG XL", "; convert it first, for example with libjxl: djxl photo.jxl photo.png"},
      Way{"JPEG 2000", "; convert it first, for example with OpenJPEG: opj_decompress -i photo.jp2 -o photo.png"},
      Way{"AVIF", "; convert it first, for example with libavif: avifdec photo.avif photo.png"},
      Way{"HEIC", "; convert it first, for example with libheif: heif-convert photo.heic photo.jpg"},
      Way{"MP4 video",
          "; take a picture from it first, for example with ffmpeg: ffmpeg -i film.mp4 -frames:v 1 photo.png"},
      Way{"a raw photograph", "; develop it first, for example with darktable: darktable-cli photo.cr3 photo.png"},
      Way{"ICO", "; convert it first, for example with ImageMagick: magick icon.ico icon.png"},
      Way{"QOI", "; convert it first, for example with ImageMagick: magick photo.qoi photo.png"},
      Way{"OpenEXR", "; convert it first, for example with ImageMagick: magick photo.exr photo.png"},
      Way{"PNM that", "; convert it first, for example with ImageMagick: magick photo.pbm photo.png"},
      Way{"PDF", "; convert a page first, for example with Poppler: pdftoppm -png -singlefile paper.pdf page"},
      Way{"SVG", "; draw it first, for example with librsvg: rsvg-convert drawing.svg -o drawing.png"},
  };
  for (const auto& way : ways) {
    if (name.starts_with(way.name)) return way.command;
  }
  return {};
}

/// The command that converts a PNG to the format of `extension` (".avif"), as the end of a sentence, or "".
inline std::string_view conversion_to(std::string_view extension) {
  struct Way {
    std::string_view extensions, command;
  };
  static constexpr std::array ways{
      Way{".jxl", "; write a PNG and convert it, for example with libjxl: cjxl out.png out.jxl"},
      Way{".heic.heif", "; write a PNG and convert it, for example with libheif: heif-enc out.png -o out.heic"},
      Way{".avif", "; write a PNG and convert it, for example with libavif: avifenc out.png out.avif"},
      Way{".tif.tiff", "; write a PNG and convert it, for example with ImageMagick: magick out.png out.tiff"},
      Way{".bmp.gif.tga.psd.ppm.pgm.jp2", "; write a PNG and convert it, for example with ImageMagick's magick"},
  };
  for (const auto& way : ways) {
    for (auto found = way.extensions.find(extension); !extension.empty() && found != std::string_view::npos;
         found = way.extensions.find(extension, found + 1)) {
      const auto end = found + extension.size();
      if (end == way.extensions.size() || way.extensions[end] == '.') return way.command;
    }
  }
  return {};
}

/// Whether `head` begins with the header of a TGA file, which has no mark of its own.
inline bool looks_like_tga(std::string_view head) {
  if (head.size() < 18) return false;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(head[i])); };
  const unsigned map = byte(1), kind = byte(2) & ~8u, map_bits = byte(7), bits = byte(16);
  const auto colours = [](unsigned depth) { return depth == 15 || depth == 16 || depth == 24 || depth == 32; };
  const bool has_map = map == 1;
  if (map > 1 || kind < 1 || kind > 3 || (byte(2) & ~11u) != 0 || (byte(17) & 0xc0) != 0) return false;
  if (!has_map && (byte(3) | byte(4) | byte(5) | byte(6)) != 0) return false;
  if ((byte(12) | byte(13)) == 0 || (byte(14) | byte(15)) == 0) return false;
  if (kind == 1) return has_map && bits == 8 && colours(map_bits);
  return kind == 2 ? colours(bits) : bits == 8 || bits == 16;
}

}  // namespace detail

/// The format of `content`, detected from its first bytes (64 are enough for everything but text).
/// Throws `Error` for an empty file and for anything that is no picture of a format that is read, saying what it is if
/// it is recognised (another picture format and how to convert it, an HTML page, a git-LFS pointer). `name` is the
/// file's name in messages.
inline ImageFormat sniff_image_format(std::span<const std::byte> content, std::string_view name) {
  using namespace std::string_view_literals;
  const std::string_view head(reinterpret_cast<const char*>(content.data()),
                              std::min<std::size_t>(content.size(), 4096));
  require(!head.empty(), "{}: the file is empty, expected a picture", name);
  if (head.starts_with("\x89PNG\r\n\x1a\n"sv)) return ImageFormat::png;
  if (head.starts_with("\xff\xd8\xff"sv)) return ImageFormat::jpeg;
  if (head.starts_with("RIFF"sv) && head.size() >= 12 && head.substr(8, 4) == "WEBP"sv) return ImageFormat::webp;
  if (head.starts_with("BM"sv) && head.size() >= 26) return ImageFormat::bmp;
  if (head.starts_with("GIF87a"sv) || head.starts_with("GIF89a"sv)) return ImageFormat::gif;
  if (head.starts_with("8BPS\0\1"sv)) return ImageFormat::psd;
  if (head.starts_with("#?RADIANCE\n"sv) || head.starts_with("#?RGBE\n"sv)) return ImageFormat::hdr;
  if (head.size() >= 3 && head[0] == 'P' && (head[1] == '5' || head[1] == '6') &&
      std::isspace(static_cast<unsigned char>(head[2])) != 0) {
    return ImageFormat::pnm;
  }
  for (const auto magic : {"\x89PNG\r\n\x1a\n"sv, "\xff\xd8\xff"sv}) {
    require(!magic.starts_with(head), "{}: the file is truncated after {} bytes", name, head.size());
  }
  // Text-mode transfers rewrite line endings; the PNG signature is designed to reveal that.
  require(!(head.size() > 4 && head.substr(1, 3) == "PNG"),
          "{}: damaged PNG signature, the file was altered in transfer", name);
  const auto found = detail::foreign_content(head);
  if (!found.empty()) {
    throw_error("{}: unsupported format, got {}, expected {}{}", name, found, readable_formats,
                detail::conversion_of(found));
  }
  if (detail::looks_like_tga(head)) return ImageFormat::tga;
  std::string bytes;
  for (const char c : head.substr(0, 8)) bytes += fmt::format(" {:02x}", static_cast<unsigned char>(c));
  throw_error("{}: unsupported format, expected {}, got a file that begins with{}", name, readable_formats, bytes);
}

}  // namespace ip2p
