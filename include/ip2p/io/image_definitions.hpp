#pragma once

/// \file
/// The definitions of image.hpp that need the libraries of picture formats. Programs that link `ip2p::compiled` take
/// them from there.

#include <ip2p/core/definitions.hpp>
#include <ip2p/io/exif.hpp>
#include <ip2p/io/icc.hpp>
#include <ip2p/io/image.hpp>
#include <ip2p/io/image_format.hpp>
#include <ip2p/io/image_types.hpp>
#include <ip2p/io/jpeg.hpp>
#include <ip2p/io/jpeg_segments.hpp>
#include <ip2p/io/mask_levels.hpp>
#include <ip2p/io/png.hpp>
#include <ip2p/io/png_chunks.hpp>
#include <ip2p/io/psd.hpp>
#include <ip2p/io/stb_pictures.hpp>
#include <ip2p/io/webp.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

/// A picture as its file stores it, and what the file says of it.
struct StoredPicture {
  Picture picture;
  PictureMetadata metadata;
};

inline StoredPicture decode_stored(std::span<const std::byte> content, std::string_view name,
                                   const ReadOptions& options, Depth depth) {
  StoredPicture stored;
  switch (sniff_image_format(content, name)) {
    case ImageFormat::png:
      stored.picture = decode_png(content, name, options, depth);
      stored.metadata = png_metadata(content, name, false);
      break;
    case ImageFormat::jpeg:
      stored.metadata = read_jpeg_header(content).metadata;
      stored.picture =
          decode_jpeg(content, name, options,
                      options.colour == ColourProfile::convert ? std::span(std::as_const(stored.metadata.icc))
                                                               : std::span<const std::byte>());
      break;
    case ImageFormat::webp:
      stored.picture = decode_webp(content, name, options);
      stored.metadata = webp_metadata(content);
      break;
    case ImageFormat::bmp:
      stored.picture = decode_bmp(content, name, options);
      break;
    case ImageFormat::gif:
      stored.picture = decode_gif(content, name, options);
      break;
    case ImageFormat::tga:
      stored.picture = decode_tga(content, name, options);
      break;
    case ImageFormat::psd:
      stored.picture = decode_psd(content, name, options, depth);
      break;
    case ImageFormat::pnm:
      stored.picture = decode_pnm(content, name, options);
      break;
    case ImageFormat::hdr:
      stored.picture = decode_hdr(content, name, options);
      break;
  }
  if (stored.picture.file_width == 0) {
    stored.picture.file_width = stored.picture.image.width;
    stored.picture.file_height = stored.picture.image.height;
  }
  return stored;
}

/// Turns colours and opacity upright.
inline void turn_upright(Picture& picture, int orientation) {
  if (orientation == 1) return;
  if (!picture.alpha.empty()) {
    picture.alpha = turned<1>(picture.alpha, picture.image.width, picture.image.height, orientation);
  }
  picture.image = apply_orientation(std::move(picture.image), orientation);
  if (is_transposed(orientation)) std::swap(picture.file_width, picture.file_height);
}

}  // namespace detail

// NOLINTBEGIN(misc-definitions-in-headers): not inline in the one unit of ip2p::compiled that has them

IP2P_INLINE Picture decode_picture(std::span<const std::byte> content, std::string_view name,
                                   const ReadOptions& options) {
  auto [picture, metadata] = detail::decode_stored(content, name, options, detail::Depth::high);
  detail::convert_to_srgb(picture.image, metadata.icc, name, options);
  detail::composite(picture, options.background);
  if (options.apply_exif) detail::turn_upright(picture, detail::orientation_of(metadata));
  return std::move(picture);
}

IP2P_INLINE Image decode_mask(std::span<const std::byte> content, std::string_view name, const ReadOptions& options) {
  auto as_stored = options;
  as_stored.alpha = Alpha::composite;  // that is, read it
  as_stored.colour = ColourProfile::ignore;
  auto [picture, metadata] = detail::decode_stored(content, name, as_stored, detail::Depth::used);
  if (options.apply_exif) detail::turn_upright(picture, detail::orientation_of(metadata));
  return detail::mask_of(picture, name, options);
}

IP2P_INLINE std::vector<std::byte> encode_picture(const Picture& picture, ImageFormat format, int quality,
                                                  std::string_view name) {
  require_consistent(picture.image, name);
  require(picture.alpha.empty() || picture.alpha.size() * 3 == picture.image.pixels.size(),
          "{}: expected an alpha for each of {} pixels, got {}", name, picture.image.pixels.size() / 3,
          picture.alpha.size());
  require(quality >= 1 && quality <= 100, "{}: expected a quality of 1 to 100, got {}", name, quality);
  switch (format) {
    case ImageFormat::png:
      return detail::encode_png(picture, name);
    case ImageFormat::jpeg:
      return detail::encode_jpeg(picture.image, name, quality);
    case ImageFormat::webp:
      return detail::encode_webp(picture, name, quality);
    default:
      throw_error("{}: this format is only read, expected PNG, JPEG or WebP to write", name);
  }
}

// NOLINTEND(misc-definitions-in-headers)

}  // namespace ip2p
#endif
