#pragma once

/// \file
/// stb_image, kept to this library: in a namespace of its own and with internal linkage, so that it meets neither
/// another copy in the program nor one that is linked.
///
/// It reads BMP, GIF, TGA, PNM and HDR, and unpacks the compressed texts of PNG files. Where libpng or libjpeg is
/// absent, it reads and writes PNG or JPEG as well. `IP2P_HAS_PNG` and `IP2P_HAS_JPEG` are 1 where these libraries are
/// used. The project's build sets them to match the libraries that are linked; if they are not set, they are 1 when the
/// headers are found. With `IP2P_STB_ONLY` defined, all libraries of pictures but stb are left aside.

#ifdef IP2P_STB_ONLY
#undef IP2P_HAS_PNG
#undef IP2P_HAS_JPEG
#undef IP2P_HAS_WEBP
#undef IP2P_HAS_LCMS
#define IP2P_HAS_PNG 0
#define IP2P_HAS_JPEG 0
#define IP2P_HAS_WEBP 0
#define IP2P_HAS_LCMS 0
#endif
#ifndef IP2P_HAS_PNG
#if __has_include(<png.h>)
#define IP2P_HAS_PNG 1
#else
#define IP2P_HAS_PNG 0
#endif
#endif
#ifndef IP2P_HAS_JPEG
#if __has_include(<jpeglib.h>)
#define IP2P_HAS_JPEG 1
#else
#define IP2P_HAS_JPEG 0
#endif
#endif

// What stb includes, so that its own includes below are empty.
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

// A program may have included stb's header for itself, with settings of its own.
#pragma push_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma push_macro("STB_IMAGE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_STATIC")
#pragma push_macro("STBIDEF")
#undef STBI_INCLUDE_STB_IMAGE_H
#undef STB_IMAGE_IMPLEMENTATION
#undef STB_IMAGE_STATIC
#undef STBIDEF
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_NO_PIC
#define STBI_NO_PSD
#define STBI_SUPPORT_ZLIB
#if IP2P_HAS_PNG
#define STBI_NO_PNG
#endif
#if IP2P_HAS_JPEG
#define STBI_NO_JPEG
#endif
#if !IP2P_HAS_PNG || !IP2P_HAS_JPEG
#pragma push_macro("INCLUDE_STB_IMAGE_WRITE_H")
#pragma push_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_WRITE_STATIC")
#pragma push_macro("STBIWDEF")
#undef INCLUDE_STB_IMAGE_WRITE_H
#undef STB_IMAGE_WRITE_IMPLEMENTATION
#undef STB_IMAGE_WRITE_STATIC
#undef STBIWDEF
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wsign-compare"
namespace ip2p::detail::stb {
#ifdef DOXYGEN  // which would look for the headers, because they are included in a namespace
#elif __has_include(<stb_image.h>)
#include <stb_image.h>
#if !IP2P_HAS_PNG || !IP2P_HAS_JPEG
#include <stb_image_write.h>
#endif
#else
#include <stb/stb_image.h>
#if !IP2P_HAS_PNG || !IP2P_HAS_JPEG
#include <stb/stb_image_write.h>
#endif
#endif
}  // namespace ip2p::detail::stb
#pragma GCC diagnostic pop

#if !IP2P_HAS_PNG || !IP2P_HAS_JPEG
#undef STBI_WRITE_NO_STDIO
#pragma pop_macro("STBIWDEF")
#pragma pop_macro("STB_IMAGE_WRITE_STATIC")
#pragma pop_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma pop_macro("INCLUDE_STB_IMAGE_WRITE_H")
#endif
#undef STBI_NO_STDIO
#undef STBI_NO_PIC
#undef STBI_NO_PSD
#undef STBI_NO_PNG
#undef STBI_NO_JPEG
#undef STBI_SUPPORT_ZLIB
#pragma pop_macro("STBIDEF")
#pragma pop_macro("STB_IMAGE_STATIC")
#pragma pop_macro("STB_IMAGE_IMPLEMENTATION")
#pragma pop_macro("STBI_INCLUDE_STB_IMAGE_H")

namespace ip2p::detail {

/// The bytes that a zlib stream unpacks to, or nothing if it is damaged or gives more than `most` bytes.
inline std::optional<std::string> unpacked(std::span<const std::byte> packed, std::size_t most) {
  std::string bytes(most, '\0');
  const int size =
      stb::stbi_zlib_decode_buffer(bytes.data(), static_cast<int>(most), reinterpret_cast<const char*>(packed.data()),
                                   static_cast<int>(packed.size()));
  if (size < 0) return {};
  bytes.resize(static_cast<std::size_t>(size));
  return bytes;
}

}  // namespace ip2p::detail
