#pragma once

/// \file
/// WebP through libwebp and libwebpdemux, if they are installed.
///
/// `IP2P_HAS_WEBP` is 1 if WebP is supported. The project's build sets it to match the libraries that are linked; if it
/// is not set, it is 1 when the headers are found.

#include <ip2p/io/exif.hpp>
#include <ip2p/io/image_types.hpp>
#include <ip2p/io/stb.hpp>

#ifndef IP2P_HAS_WEBP
#if __has_include(<webp/decode.h>) && __has_include(<webp/encode.h>) && __has_include(<webp/demux.h>)
#define IP2P_HAS_WEBP 1
#else
#define IP2P_HAS_WEBP 0
#endif
#endif

#if IP2P_HAS_WEBP
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>

#include <memory>
#endif

#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p::detail {

#if IP2P_HAS_WEBP

/// What the chunks EXIF, XMP and ICCP of a WebP file say; nothing of a file that is damaged.
inline PictureMetadata webp_metadata(std::span<const std::byte> content) {
  const WebPData data{reinterpret_cast<const std::uint8_t*>(content.data()), content.size()};
  PictureMetadata found;
  const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&data), WebPDemuxDelete);
  if (demuxer == nullptr) return found;
  const auto chunk = [&](const char* name) {
    WebPChunkIterator part = {};
    if (WebPDemuxGetChunk(demuxer.get(), name, 1, &part) == 0) return std::span<const std::byte>();
    const auto bytes = std::as_bytes(std::span(part.chunk.bytes, part.chunk.size));  // of `content`
    WebPDemuxReleaseChunkIterator(&part);
    return bytes;
  };
  const auto exif = chunk("EXIF"), xmp = chunk("XMP "), icc = chunk("ICCP");
  found.exif.assign(exif.begin(), exif.end());
  found.xmp.assign(reinterpret_cast<const char*>(xmp.data()), xmp.size());
  found.icc.assign(icc.begin(), icc.end());
  return found;
}

/// Decodes WebP `content`, lossy or lossless; of an animation, the first frame. Throws `Error` for truncated or corrupt
/// files.
inline Picture decode_webp(std::span<const std::byte> content, std::string_view name, const ReadOptions& options) {
  const WebPData data{reinterpret_cast<const std::uint8_t*>(content.data()), content.size()};
  // Bytes 4..7 hold the length of the container, which reveals a truncated file.
  std::uint64_t expected = 8;
  for (std::size_t i = 0; i < 4 && content.size() >= 8; ++i) {
    expected += std::to_integer<std::uint64_t>(content[4 + i]) << (8 * i);
  }
  require(content.size() >= expected, "{}: truncated WebP: the header gives {} bytes, the file has {}", name, expected,
          content.size());
  WebPDecoderConfig config;
  require(WebPInitDecoderConfig(&config) != 0, "{}: libwebp does not match the headers it was compiled with", name);
  const auto header = WebPGetFeatures(data.bytes, data.size, &config.input);
  require(header == VP8_STATUS_OK, "{}: corrupt WebP: the header is not valid", name);
  require_limits(static_cast<std::uint64_t>(config.input.width), static_cast<std::uint64_t>(config.input.height), name,
                 options);
  const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&data), WebPDemuxDelete);
  require(demuxer != nullptr, "{}: corrupt or truncated WebP: the container is not valid", name);
  const auto width = static_cast<std::size_t>(config.input.width);
  const auto height = static_cast<std::size_t>(config.input.height);

  if (config.input.has_animation != 0) {
    WebPAnimDecoderOptions animation;
    require(WebPAnimDecoderOptionsInit(&animation) != 0, "{}: libwebp does not match the headers it was compiled with",
            name);
    const std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder*)> decoder(WebPAnimDecoderNew(&data, &animation),
                                                                               WebPAnimDecoderDelete);
    std::uint8_t* rgba = nullptr;
    int timestamp = 0;
    require(decoder != nullptr && WebPAnimDecoderGetNext(decoder.get(), &rgba, &timestamp) != 0,
            "{}: corrupt WebP: the first frame of the animation cannot be decoded", name);
    auto picture = picture_from_rgba(rgba, width, height);
    if (options.alpha == Alpha::drop) picture.alpha.clear();
    return picture;
  }
  const bool with_alpha = config.input.has_alpha != 0 && options.alpha != Alpha::drop;
  Picture picture;
  if (!with_alpha) picture.image = blank_image(width, height);
  std::vector<std::uint8_t> rgba(with_alpha ? width * height * 4 : 0);
  config.output.colorspace = with_alpha ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = with_alpha ? rgba.data() : picture.image.pixels.data();
  config.output.u.RGBA.stride = config.input.width * (with_alpha ? 4 : 3);
  config.output.u.RGBA.size = static_cast<std::size_t>(config.output.u.RGBA.stride) * height;
  const auto status = WebPDecode(data.bytes, data.size, &config);
  WebPFreeDecBuffer(&config.output);
  require(status != VP8_STATUS_NOT_ENOUGH_DATA && status != VP8_STATUS_SUSPENDED, "{}: truncated WebP", name);
  require(status == VP8_STATUS_OK, "{}: corrupt WebP: libwebp status {}", name, static_cast<int>(status));
  return with_alpha ? picture_from_rgba(rgba.data(), width, height) : picture;
}

/// Encodes a picture, its alpha without loss, as a lossy WebP file of `quality` 1..100. Throws `Error` for sides over
/// 16383.
inline std::vector<std::byte> encode_webp(const Picture& picture, std::string_view name, int quality) {
  const auto& image = picture.image;
  require(image.width <= WEBP_MAX_DIMENSION && image.height <= WEBP_MAX_DIMENSION,
          "{}: WebP holds at most {} pixels per side, got {}x{}", name, WEBP_MAX_DIMENSION, image.width, image.height);
  std::uint8_t* bytes = nullptr;
  const int width = static_cast<int>(image.width), height = static_cast<int>(image.height);
  const auto rgba = interleaved_rgba(picture);
  const std::size_t size =
      rgba.empty() ? WebPEncodeRGB(image.pixels.data(), width, height, width * 3, static_cast<float>(quality), &bytes)
                   : WebPEncodeRGBA(rgba.data(), width, height, width * 4, static_cast<float>(quality), &bytes);
  const std::unique_ptr<std::uint8_t, void (*)(void*)> owner(bytes, WebPFree);
  require(size > 0, "{}: writing WebP failed", name);
  const auto* first = reinterpret_cast<const std::byte*>(bytes);
  return {first, first + size};
}

#else

inline PictureMetadata webp_metadata(std::span<const std::byte>) { return {}; }

inline Picture decode_webp(std::span<const std::byte>, std::string_view name, const ReadOptions&) {
  throw_error(
      "{}: unsupported format, got WebP, and this build has no libwebp; convert it, for example with: dwebp in.webp -o "
      "in.png",
      name);
}

inline std::vector<std::byte> encode_webp(const Picture&, std::string_view name, int) {
  throw_error("{}: cannot write WebP, this build has no libwebp; use .png or .jpg", name);
}

#endif

}  // namespace ip2p::detail
