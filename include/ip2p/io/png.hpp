#pragma once

/// \file
/// PNG through libpng. Without it (`IP2P_HAS_PNG` is 0), stb is used, and damage is looked for beforehand. Every chunk
/// is checked, including optional ones.

#include <ip2p/io/image_types.hpp>
#include <ip2p/io/png_chunks.hpp>
#include <ip2p/io/stb.hpp>
#include <ip2p/io/stb_pictures.hpp>

#if IP2P_HAS_PNG
#include <png.h>

#include <csetjmp>
#endif

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p::detail {

#if IP2P_HAS_PNG

/// State shared with libpng's callbacks. libpng reports errors by longjmp, which must not skip any destructor: the
/// functions below that call setjmp hold only pointers and numbers, and objects with destructors live in their callers.
struct PngState {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const std::byte* data = nullptr;  // when reading: the `left` bytes not yet read
  std::size_t left = 0;
  std::vector<std::byte>* sink = nullptr;  // when writing: the output
  char message[256] = {};
};

[[noreturn]] inline void png_on_error(png_structp png, png_const_charp message) {
  auto* state = static_cast<PngState*>(png_get_error_ptr(png));
  std::snprintf(state->message, sizeof state->message, "%s", message);
  png_longjmp(png, 1);
}

inline void png_on_warning(png_structp, png_const_charp) {}

inline void png_on_read(png_structp png, png_bytep out, png_size_t count) {
  auto* state = static_cast<PngState*>(png_get_io_ptr(png));
  if (count > state->left) png_error(png, "the file is truncated");
  std::memcpy(out, state->data, count);
  state->data += count;
  state->left -= count;
}

inline void png_on_write(png_structp png, png_bytep bytes, png_size_t count) {
  auto* state = static_cast<PngState*>(png_get_io_ptr(png));
  bool stored = true;
  try {
    const auto* first = reinterpret_cast<const std::byte*>(bytes);
    state->sink->insert(state->sink->end(), first, first + count);
  } catch (...) {
    stored = false;
  }
  if (!stored) png_error(png, "out of memory");
}

/// Reads everything before the pixels. On an error returns false, with its text in `state->message`.
inline bool png_read_header(PngState* state) {
  if (setjmp(png_jmpbuf(state->png))) return false;
  png_set_read_fn(state->png, state, png_on_read);
  png_set_user_limits(state->png, 0x7fffffff, 0x7fffffff);  // ReadOptions enforces the limits, with better messages
  png_set_crc_action(state->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  // Chunks that are not needed are only checked against their CRC: some could unpack to gigabytes, and eXIf takes the
  // memory that it claims before it is read.
  static constexpr png_byte skipped[] = "eXIf\0iCCP\0tEXt\0zTXt\0iTXt\0sPLT\0hIST\0pCAL\0sCAL\0tIME\0bKGD\0oFFs\0pHYs";
  png_set_keep_unknown_chunks(state->png, PNG_HANDLE_CHUNK_NEVER, skipped, sizeof skipped / 5);
  png_read_info(state->png, state->info);
  return true;
}

/// Reads the pixels into `rows` as RGB, or as RGBA if `with_alpha`, and checks the rest of the file. Values are of 8
/// bits, or of 16 if `wide`.
inline bool png_read_pixels(PngState* state, png_bytepp rows, std::size_t row_bytes, bool with_alpha, bool wide) {
  if (setjmp(png_jmpbuf(state->png))) return false;
  png_set_expand(state->png);
  if (!wide)
    png_set_strip_16(state->png);  // keeps the high byte, as Pillow does: exact for values that were once 8-bit
  png_set_gray_to_rgb(state->png);
  if (with_alpha) {
    png_set_add_alpha(state->png, wide ? 0xffff : 0xff, PNG_FILLER_AFTER);
  } else {
    png_set_strip_alpha(state->png);
  }
  png_set_interlace_handling(state->png);
  png_read_update_info(state->png, state->info);
  if (png_get_rowbytes(state->png, state->info) != row_bytes) png_error(state->png, "unexpected row size");
  png_read_image(state->png, rows);
  png_read_end(state->png, state->info);
  return true;
}

/// Decodes PNG `content`. Palette, gray and 16-bit pictures become 8-bit RGB exactly as in Pillow. Of an animation only
/// the default image is read. Throws `Error` for truncation, any CRC mismatch and corrupt compressed data.
/// \param depth what becomes of values of 16 bits
inline Picture decode_png(std::span<const std::byte> content, std::string_view name, const ReadOptions& options,
                          Depth depth) {
  struct Reader : PngState {
    ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
  } state;
  state.data = content.data();
  state.left = content.size();
  state.png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, static_cast<PngState*>(&state), png_on_error, png_on_warning);
  state.info = state.png != nullptr ? png_create_info_struct(state.png) : nullptr;
  require(state.info != nullptr, "{}: libpng could not start, headers {}, library {}", name, PNG_LIBPNG_VER_STRING,
          png_get_libpng_ver(nullptr));
  require(png_read_header(&state), "{}: corrupt PNG: {}", name, state.message);
  const std::size_t width = png_get_image_width(state.png, state.info);
  const std::size_t height = png_get_image_height(state.png, state.info);
  require_limits(width, height, name, options);

  const bool has_alpha = (png_get_color_type(state.png, state.info) & PNG_COLOR_MASK_ALPHA) != 0 ||
                         png_get_valid(state.png, state.info, PNG_INFO_tRNS) != 0;
  const bool with_alpha = has_alpha && options.alpha != Alpha::drop;
  const bool wide = depth == Depth::used && png_get_bit_depth(state.png, state.info) == 16;
  Picture picture;
  if (!with_alpha && !wide) picture.image = blank_image(width, height);
  const std::size_t row_bytes = width * (with_alpha ? 4 : 3) * (wide ? 2 : 1);
  std::vector<png_byte> values(with_alpha || wide ? height * row_bytes : 0);
  std::vector<png_bytep> rows(height);
  for (std::size_t y = 0; y < height; ++y) {
    rows[y] = (values.empty() ? picture.image.pixels.data() : values.data()) + y * row_bytes;
  }
  require(png_read_pixels(&state, rows.data(), row_bytes, with_alpha, wide), "{}: corrupt PNG: {}", name,
          state.message);
  if (wide) {
    std::vector<std::uint16_t> numbers(values.size() / 2);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = static_cast<std::uint16_t>(values[i * 2] << 8 | values[i * 2 + 1]);
    }
    values = used_levels(numbers, with_alpha);
  }
  if (with_alpha) return picture_from_rgba(values.data(), width, height);
  if (wide) picture.image = {static_cast<std::int64_t>(width), static_cast<std::int64_t>(height), std::move(values)};
  return picture;
}

/// \param channels 3 for RGB, 4 for RGBA
inline bool png_write_pixels(PngState* state, const std::uint8_t* pixels, png_uint_32 width, png_uint_32 height,
                             std::size_t channels) {
  if (setjmp(png_jmpbuf(state->png))) return false;
  png_set_write_fn(state->png, state, png_on_write, nullptr);
  png_set_user_limits(state->png, 0x7fffffff, 0x7fffffff);
  png_set_IHDR(state->png, state->info, width, height, 8, channels == 4 ? PNG_COLOR_TYPE_RGB_ALPHA : PNG_COLOR_TYPE_RGB,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(state->png, state->info);
  for (png_uint_32 y = 0; y < height; ++y) {
    png_write_row(state->png, pixels + std::size_t{y} * width * channels);
  }
  png_write_end(state->png, state->info);
  return true;
}

/// Encodes a picture as an 8-bit RGB or RGBA PNG file. Throws `Error` if libpng fails.
inline std::vector<std::byte> encode_png(const Picture& picture, std::string_view name) {
  struct Writer : PngState {
    ~Writer() { png_destroy_write_struct(&png, &info); }
  } state;
  std::vector<std::byte> encoded;
  state.sink = &encoded;
  state.png =
      png_create_write_struct(PNG_LIBPNG_VER_STRING, static_cast<PngState*>(&state), png_on_error, png_on_warning);
  state.info = state.png != nullptr ? png_create_info_struct(state.png) : nullptr;
  require(state.info != nullptr, "{}: libpng could not start, headers {}, library {}", name, PNG_LIBPNG_VER_STRING,
          png_get_libpng_ver(nullptr));
  const auto rgba = interleaved_rgba(picture);
  const auto& image = picture.image;
  require(
      png_write_pixels(&state, rgba.empty() ? image.pixels.data() : rgba.data(), static_cast<png_uint_32>(image.width),
                       static_cast<png_uint_32>(image.height), rgba.empty() ? 3 : 4),
      "{}: writing PNG failed: {}", name, state.message);
  return encoded;
}

#else

/// Decodes PNG `content` with stb. Throws `Error` for truncation, any CRC mismatch and corrupt compressed data.
inline Picture decode_png(std::span<const std::byte> content, std::string_view name, const ReadOptions& options,
                          Depth depth) {
  bool has_key = false;
  visit_png_chunks(content, name, true, [&](std::string_view type, std::string_view data) {
    has_key |= type == "tRNS";
    if (type == "IHDR" && data.size() >= 8)
      require_limits(big_endian<4>(data, 0), big_endian<4>(data, 4), name, options);
  });
  return stb_picture(content, name, "PNG", options, depth, has_key);
}

/// Encodes a picture as an 8-bit RGB or RGBA PNG file.
inline std::vector<std::byte> encode_png(const Picture& picture, std::string_view name) {
  const auto rgba = interleaved_rgba(picture);
  const auto& image = picture.image;
  std::vector<std::byte> encoded;
  const int channels = rgba.empty() ? 3 : 4;
  require(stb::stbi_write_png_to_func(
              stb_on_write, &encoded, static_cast<int>(image.width), static_cast<int>(image.height), channels,
              rgba.empty() ? image.pixels.data() : rgba.data(), static_cast<int>(image.width) * channels) != 0 &&
              !encoded.empty(),
          "{}: writing PNG failed", name);
  return encoded;
}

#endif

}  // namespace ip2p::detail
