#pragma once

/// \file
/// JPEG through libjpeg-turbo, with the same settings as Pillow: accurate integer DCT, "fancy" chroma upsampling.

#include <ip2p/io/exif.hpp>
#include <ip2p/io/image_types.hpp>

#include <cstdio>  // jpeglib.h needs FILE and size_t before it

#include <jpeglib.h>

#include <jerror.h>

#include <csetjmp>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p::detail {

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
  jpeg_save_markers(&reader->info, JPEG_APP0 + 1, 0xffff);  // EXIF
  jpeg_read_header(&reader->info, TRUE);
  reader->errors.in_pixels = true;
  return true;
}

/// Reads all rows into `rgb`. `row` is a buffer of width x 4 bytes for CMYK pictures, null for all others.
inline bool jpeg_read_pixels(JpegReader* reader, std::uint8_t* rgb, std::uint8_t* row) {
  if (setjmp(reader->errors.jump)) return false;
  reader->info.out_color_space = row != nullptr ? JCS_CMYK : JCS_RGB;
  reader->info.dct_method = JDCT_ISLOW;
  jpeg_start_decompress(&reader->info);
  const std::size_t width = reader->info.output_width;
  while (reader->info.output_scanline < reader->info.output_height) {
    std::uint8_t* out = rgb + std::size_t{reader->info.output_scanline} * width * 3;
    JSAMPROW target = row != nullptr ? row : out;
    jpeg_read_scanlines(&reader->info, &target, 1);
    if (row == nullptr) continue;
    // CMYK is stored inverted (Adobe's convention, which all readers assume): a sample is the light that an ink lets
    // through. The rounding is Pillow's.
    for (std::size_t x = 0; x < width; ++x) {
      const std::uint32_t light = row[x * 4 + 3];
      for (int channel = 0; channel < 3; ++channel) {
        const std::uint32_t product = (255u - row[x * 4 + channel]) * light + 128;
        const std::uint32_t absorbed = (product + (product >> 8)) >> 8;
        out[x * 3 + channel] = static_cast<std::uint8_t>(light > absorbed ? light - absorbed : 0);
      }
    }
  }
  jpeg_finish_decompress(&reader->info);
  return true;
}

/// Orientation from the first EXIF segment, or 1 if there is none.
inline int jpeg_orientation(const jpeg_decompress_struct& info) {
  for (auto marker = info.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker != JPEG_APP0 + 1 || marker->data_length < 6) continue;
    if (std::memcmp(marker->data, "Exif\0\0", 6) != 0) continue;
    return exif_orientation(std::as_bytes(std::span(marker->data, marker->data_length)));
  }
  return 1;
}

/// Decodes JPEG `content`: baseline and progressive; gray, RGB, YCbCr, CMYK and YCCK. Throws `Error` for truncation,
/// for damage that libjpeg detects, and for rare variants that it cannot read (12-bit, lossless).
inline Image decode_jpeg(std::span<const std::byte> content, std::string_view name, const ReadOptions& options) {
  struct Reader : JpegReader {
    ~Reader() { jpeg_destroy_decompress(&info); }
  } reader;
  require(jpeg_read_start(&reader, reinterpret_cast<const unsigned char*>(content.data()), content.size()),
          "{}: corrupt or truncated JPEG: {}", name, reader.errors.message);
  require_limits(reader.info.image_width, reader.info.image_height, name, options);
  const auto space = reader.info.jpeg_color_space;
  require(space != JCS_UNKNOWN, "{}: unsupported JPEG with {} colour components, expected 1, 3 or 4", name,
          reader.info.num_components);
  const int orientation = options.apply_exif ? jpeg_orientation(reader.info) : 1;  // finishing frees the markers
  Image image = blank_image(reader.info.image_width, reader.info.image_height);
  std::vector<std::uint8_t> row(space == JCS_CMYK || space == JCS_YCCK ? reader.info.image_width * 4 : 0);
  require(jpeg_read_pixels(&reader, image.pixels.data(), row.empty() ? nullptr : row.data()),
          "{}: corrupt or truncated JPEG: {}", name, reader.errors.message);
  return apply_orientation(std::move(image), orientation);
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

}  // namespace ip2p::detail
