#pragma once

/// \file
/// JPEG through libjpeg-turbo, with the same settings as Pillow: accurate integer DCT, "fancy" chroma upsampling.
/// Without it (`IP2P_HAS_JPEG` is 0), stb is used, and damage is looked for beforehand, as far as the markers reveal
/// it.

#include <ip2p/io/icc.hpp>
#include <ip2p/io/image_types.hpp>
#include <ip2p/io/jpeg_segments.hpp>
#include <ip2p/io/stb.hpp>
#include <ip2p/io/stb_pictures.hpp>
#include <ip2p/io/whole_pictures.hpp>

#if IP2P_HAS_JPEG
#include <cstdio>  // jpeglib.h needs FILE and size_t before it

#include <jpeglib.h>

#include <jerror.h>

#include <csetjmp>
#include <cstdlib>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace ip2p::detail {

#if IP2P_HAS_JPEG

/// libjpeg reports errors through callbacks that must not return, so they longjmp. That must not skip any destructor,
/// so the functions below that call setjmp hold only pointers and numbers.
struct JpegErrors {
  jpeg_error_mgr manager = {};
  std::jmp_buf jump;
  bool in_pixels = false;
  char message[JMSG_LENGTH_MAX] = {};
};

/// libjpeg hands back the `jpeg_error_mgr`, which is the first member of `JpegErrors`.
inline JpegErrors* jpeg_errors(j_common_ptr info) { return reinterpret_cast<JpegErrors*>(info->err); }

[[noreturn]] inline void jpeg_on_error(j_common_ptr info) {
  JpegErrors* errors = jpeg_errors(info);
  errors->manager.format_message(info, errors->message);
  std::longjmp(errors->jump, 1);
}

/// libjpeg fills damaged areas with gray or garbage and only warns. Warnings that mean lost pixels are errors here;
/// warnings about unusual but complete files (JFIF version, Adobe transform, ICC markers) are ignored.
inline void jpeg_on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
    case JWRN_BOGUS_PROGRESSION:
      jpeg_on_error(info);
    case JWRN_EXTRANEOUS_DATA:  // padding between header segments; among the pixels, the decoder has lost sync
      if (jpeg_errors(info)->in_pixels) jpeg_on_error(info);
      break;
    default:
      break;
  }
}

inline jpeg_error_mgr* jpeg_start_errors(JpegErrors* errors) {
  jpeg_std_error(&errors->manager);
  errors->manager.error_exit = jpeg_on_error;
  errors->manager.emit_message = jpeg_on_message;
  return &errors->manager;
}

struct JpegReader {
  jpeg_decompress_struct info = {};
  JpegErrors errors;
  jpeg_progress_mgr progress = {};
};

/// A tiny malicious progressive file can demand thousands of passes over the whole picture; real ones use about ten.
inline void jpeg_limit_scans(j_common_ptr info) {
  constexpr int most_scans = 500;
  if (info->is_decompressor == 0) return;
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= most_scans) return;
  JpegErrors* errors = jpeg_errors(info);
  std::snprintf(errors->message, sizeof errors->message, "more than %d scans", most_scans);
  std::longjmp(errors->jump, 1);
}

inline bool jpeg_read_start(JpegReader* reader, const unsigned char* data, std::size_t size) {
  reader->info.err = jpeg_start_errors(&reader->errors);
  if (setjmp(reader->errors.jump)) return false;
  jpeg_create_decompress(&reader->info);
  reader->progress.progress_monitor = jpeg_limit_scans;
  reader->info.progress = &reader->progress;
  jpeg_mem_src(&reader->info, data, static_cast<unsigned long>(size));
  jpeg_read_header(&reader->info, TRUE);
  reader->errors.in_pixels = true;
  return true;
}

/// Inverted CMYK pixels in RGB. CMYK is stored inverted (Adobe's convention, which all readers assume): a sample is the
/// light that an ink lets through. The rounding is Pillow's.
inline void rgb_of_cmyk(const std::uint8_t* cmyk, std::uint8_t* rgb, std::size_t count) {
  for (std::size_t x = 0; x < count; ++x) {
    const std::uint32_t light = cmyk[x * 4 + 3];
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const std::uint32_t product = (255u - cmyk[x * 4 + channel]) * light + 128;
      const std::uint32_t absorbed = (product + (product >> 8)) >> 8;
      rgb[x * 3 + channel] = static_cast<std::uint8_t>(light > absorbed ? light - absorbed : 0);
    }
  }
}

/// Sets how the picture is decoded, at 1/`divisor` of its size, and computes that size.
inline bool jpeg_set_output(JpegReader* reader, bool cmyk, unsigned divisor) {
  if (setjmp(reader->errors.jump)) return false;
  reader->info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
  reader->info.dct_method = JDCT_ISLOW;
  reader->info.scale_num = 1;
  reader->info.scale_denom = divisor;
  jpeg_calc_output_dimensions(&reader->info);
  return true;
}

/// Reads all rows into `rgb`. `row` is a buffer of width x 4 bytes for CMYK pictures, null for all others; `to_rgb`
/// converts one.
template <class ToRgb>
bool jpeg_read_pixels(JpegReader* reader, std::uint8_t* rgb, std::uint8_t* row, const ToRgb& to_rgb) {
  if (setjmp(reader->errors.jump)) return false;
  jpeg_start_decompress(&reader->info);
  const std::size_t width = reader->info.output_width;
  while (reader->info.output_scanline < reader->info.output_height) {
    std::uint8_t* out = rgb + std::size_t{reader->info.output_scanline} * width * 3;
    JSAMPROW target = row != nullptr ? row : out;
    jpeg_read_scanlines(&reader->info, &target, 1);
    if (row != nullptr) to_rgb(row, out, width);
  }
  jpeg_finish_decompress(&reader->info);
  return true;
}

/// The power of two by which a picture's sides are divided so that it has at most `max_pixels`; at most 8, more than
/// which libjpeg does not do.
inline unsigned jpeg_divisor(std::uint64_t width, std::uint64_t height, std::int64_t max_pixels) {
  unsigned divisor = 1;
  const auto fits = [&] {
    const auto columns = (width + divisor - 1) / divisor, rows = (height + divisor - 1) / divisor;
    return columns * rows <= static_cast<std::uint64_t>(std::max<std::int64_t>(max_pixels, 0));
  };
  while (divisor < 8 && !fits()) divisor *= 2;
  return fits() ? divisor : 1;
}

/// Decodes JPEG `content`: baseline and progressive; gray, RGB, YCbCr, CMYK and YCCK. A picture of more than
/// `options.max_pixels` is decoded at 1/2, 1/4 or 1/8 of its size, from its blocks' low frequencies. Throws `Error` for
/// truncation, for damage that libjpeg detects, and for rare variants that it cannot read (12-bit, lossless).
/// \param icc profile that CMYK is converted by; for other colours it is the caller's business
inline Picture decode_jpeg(std::span<const std::byte> content, std::string_view name, const ReadOptions& options,
                           std::span<const std::byte> icc) {
  struct Reader : JpegReader {
    ~Reader() { jpeg_destroy_decompress(&info); }
  } reader;
  require(jpeg_read_start(&reader, reinterpret_cast<const unsigned char*>(content.data()), content.size()),
          "{}: corrupt or truncated JPEG: {}", name, reader.errors.message);
  const std::uint64_t width = reader.info.image_width, height = reader.info.image_height;
  require_limits(width, height, name, options, options.max_file_pixels);
  const unsigned divisor = jpeg_divisor(width, height, options.max_pixels);
  if (divisor == 1) require_limits(width, height, name, options);
  const auto space = reader.info.jpeg_color_space;
  require(space != JCS_UNKNOWN, "{}: unsupported JPEG with {} colour components, expected 1, 3 or 4", name,
          reader.info.num_components);
  const bool cmyk = space == JCS_CMYK || space == JCS_YCCK;
  require(jpeg_set_output(&reader, cmyk, divisor), "{}: corrupt or truncated JPEG: {}", name, reader.errors.message);
  Picture picture{blank_image(reader.info.output_width, reader.info.output_height),
                  {},
                  static_cast<std::int64_t>(width),
                  static_cast<std::int64_t>(height)};
  std::vector<std::uint8_t> row(cmyk ? std::size_t{reader.info.output_width} * 4 : 0);
  auto* rgb = picture.image.pixels.data();
  bool read = false;
#if IP2P_HAS_LCMS
  std::optional<ToSrgb> to_srgb;
  if (cmyk && icc_space(icc) == "CMYK") to_srgb.emplace(icc, true);
  if (to_srgb && *to_srgb) {
    read = jpeg_read_pixels(&reader, rgb, row.data(), [&](const std::uint8_t* from, std::uint8_t* to, std::size_t n) {
      to_srgb->cmyk(from, to, n);
    });
  } else {
    if (to_srgb) {
      warn(options,
           fmt::format("{}: the colour profile {} is damaged; CMYK is converted without it", name, icc_name(icc)));
    }
    read = jpeg_read_pixels(&reader, rgb, row.empty() ? nullptr : row.data(), rgb_of_cmyk);
  }
#else
  if (cmyk && icc_space(icc) == "CMYK") {
    warn(options,
         fmt::format("{}: the colours are those of the profile {}, and this build has no lcms2 to convert them; "
                     "CMYK is converted without it",
                     name, icc_name(icc)));
  }
  read = jpeg_read_pixels(&reader, rgb, row.empty() ? nullptr : row.data(), rgb_of_cmyk);
#endif
  require(read, "{}: corrupt or truncated JPEG: {}", name, reader.errors.message);
  if (divisor > 1) {
    warn(options, fmt::format("{}: {}x{} pixels are more than the limit of {}; read at 1/{} of its size, {}x{}", name,
                              width, height, options.max_pixels, divisor, picture.image.width, picture.image.height));
  }
  return picture;
}

struct JpegWriter {
  jpeg_compress_struct info = {};
  JpegErrors errors;
  unsigned char* bytes = nullptr;  // malloc'ed by libjpeg
  unsigned long size = 0;
};

inline bool jpeg_write_pixels(JpegWriter* writer, const std::uint8_t* rgb, JDIMENSION width, JDIMENSION height,
                              int quality) {
  writer->info.err = jpeg_start_errors(&writer->errors);
  if (setjmp(writer->errors.jump)) return false;
  jpeg_create_compress(&writer->info);
  jpeg_mem_dest(&writer->info, &writer->bytes, &writer->size);
  writer->info.image_width = width;
  writer->info.image_height = height;
  writer->info.input_components = 3;
  writer->info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&writer->info);
  jpeg_set_quality(&writer->info, quality, TRUE);
  jpeg_start_compress(&writer->info, TRUE);
  while (writer->info.next_scanline < height) {
    JSAMPROW row = const_cast<std::uint8_t*>(rgb) + std::size_t{writer->info.next_scanline} * width * 3;
    jpeg_write_scanlines(&writer->info, &row, 1);
  }
  jpeg_finish_compress(&writer->info);
  return true;
}

/// Encodes `image` as a baseline 4:2:0 JPEG file of `quality` 1..100. Throws `Error` for sides over 65500.
inline std::vector<std::byte> encode_jpeg(const Image& image, std::string_view name, int quality) {
  struct Writer : JpegWriter {
    ~Writer() {
      jpeg_destroy_compress(&info);
      std::free(bytes);
    }
  } writer;
  require(jpeg_write_pixels(&writer, image.pixels.data(), static_cast<JDIMENSION>(image.width),
                            static_cast<JDIMENSION>(image.height), quality),
          "{}: writing JPEG failed: {}", name, writer.errors.message);
  const auto* first = reinterpret_cast<const std::byte*>(writer.bytes);
  return {first, first + writer.size};
}

#else

/// Decodes JPEG `content` with stb, always in full size: baseline and progressive; gray, RGB, YCbCr, CMYK and YCCK.
/// Throws `Error` for truncation and for damage that shows in its markers.
inline Picture decode_jpeg(std::span<const std::byte> content, std::string_view name, const ReadOptions& options,
                           std::span<const std::byte> icc) {
  const auto header = read_jpeg_header(content);
  if (header.components != 0) require_limits(header.width, header.height, name, options);
  require_whole_jpeg(content, name);
  if (header.components == 4 && icc_space(icc) == "CMYK") {
    warn(options,
         fmt::format("{}: the colours are those of the profile {}, and this build has no libjpeg to read them; "
                     "CMYK is converted without it",
                     name, icc_name(icc)));
  }
  return stb_picture(content, name, "JPEG", options, Depth::high);
}

/// Encodes `image` as a baseline JPEG file of `quality` 1..100. Throws `Error` for sides over 65500.
inline std::vector<std::byte> encode_jpeg(const Image& image, std::string_view name, int quality) {
  constexpr std::int64_t longest = 65500;
  require(image.width <= longest && image.height <= longest,
          "{}: writing JPEG failed: it holds at most {} pixels per side, got {}x{}", name, longest, image.width,
          image.height);
  std::vector<std::byte> encoded;
  require(stb::stbi_write_jpg_to_func(stb_on_write, &encoded, static_cast<int>(image.width),
                                      static_cast<int>(image.height), 3, image.pixels.data(), quality) != 0 &&
              !encoded.empty(),
          "{}: writing JPEG failed", name);
  return encoded;
}

#endif

}  // namespace ip2p::detail
