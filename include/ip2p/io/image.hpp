#pragma once

/// \file
/// Reads and writes pictures: files, memory and tensors.

#include <ip2p/core/tensor.hpp>
#include <ip2p/io/ascii.hpp>
#include <ip2p/io/atomic_file.hpp>
#include <ip2p/io/image_format.hpp>
#include <ip2p/io/image_types.hpp>

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ip2p {

/// Decodes a picture file held in memory: PNG, JPEG, WebP, BMP, GIF, TGA, PSD, binary PNM or Radiance HDR. The format
/// is detected from the content.
///
/// Gray, palette, 16-bit (high byte) and CMYK pictures are converted to 8-bit RGB exactly as Pillow does. Of an
/// animation only the first frame is read. The orientation in EXIF or XMP is applied; colours are converted to sRGB
/// from the picture's profile (a CMYK picture's too); what is clear is laid over the background. Each of these can be
/// switched off (`released_reading()` switches all off). `name` is the file's name in messages. Throws `Error` for
/// truncated or damaged content (all CRCs are checked), for another format (naming it), and for a picture beyond the
/// limits of `options` (checked before any memory for pixels is allocated).
Picture decode_picture(std::span<const std::byte> content, std::string_view name, const ReadOptions& options = {});

/// The pixels alone of `decode_picture`.
inline Image decode_image(std::span<const std::byte> content, std::string_view name, const ReadOptions& options = {}) {
  return decode_picture(content, name, options).image;
}

/// Decodes a mask: white where to edit, black elsewhere, gray in between.
///
/// Programs write masks in different ways, which are told apart by the content. Alpha multiplies brightness; a stroke
/// of one colour on a transparent layer is white. If there are only two levels and one is black, the other becomes
/// white, whatever it is (0 and 1, the index of a class, 16 bits of which only the low ones are used). In a photograph
/// with a hole, the hole is white. `options.warn` is told of a mask that is empty, full, or a photograph without a
/// hole. Throws `Error` as `decode_picture` does. Colour profiles and the background have no effect.
Image decode_mask(std::span<const std::byte> content, std::string_view name, const ReadOptions& options = {});

namespace detail {

/// The bytes of a picture file. A file that is not a picture is rejected after its first few bytes, however long it is.
/// Pipes are read to the end.
inline std::vector<std::byte> read_picture_file(const std::filesystem::path& path, const ReadOptions& options) {
  const std::string name = path.string();
  std::error_code problem;
  const auto status = std::filesystem::status(path, problem);
  require(status.type() != std::filesystem::file_type::not_found, "{}: no such file", name);
  require(status.type() != std::filesystem::file_type::directory, "{}: is a folder, expected a picture file", name);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  require(file != nullptr, "{}: cannot open: {}", name, errno_text(errno));
  std::vector<std::byte> content;
  std::size_t wanted = 4096;
  for (bool sniffed = false;; sniffed = true) {
    const std::size_t old_size = content.size();
    content.resize(old_size + wanted);
    const std::size_t got = std::fread(content.data() + old_size, 1, wanted, file.get());
    content.resize(old_size + got);
    require(std::ferror(file.get()) == 0, "{}: reading failed: {}", name, errno_text(errno));
    if (!sniffed) static_cast<void>(sniff_image_format(content, name));
    require(static_cast<std::int64_t>(content.size()) <= options.max_file_bytes,
            "{}: the file is larger than the limit of {} bytes", name, options.max_file_bytes);
    if (got < wanted) break;
    wanted = std::clamp<std::size_t>(content.size(), 1 << 16, 1 << 24);
  }
  return content;
}

}  // namespace detail

/// Reads a picture file; see `decode_picture`. Also throws `Error` if `path` is missing, a folder, unreadable, or
/// longer than `options.max_file_bytes`.
inline Picture read_picture(const std::filesystem::path& path, const ReadOptions& options = {}) {
  return decode_picture(detail::read_picture_file(path, options), path.string(), options);
}

/// The pixels alone of `read_picture`.
inline Image read_image(const std::filesystem::path& path, const ReadOptions& options = {}) {
  return read_picture(path, options).image;
}

/// Reads a mask; see `decode_mask`. Throws `Error` as `read_picture` does.
inline Image read_mask(const std::filesystem::path& path, const ReadOptions& options = {}) {
  return decode_mask(detail::read_picture_file(path, options), path.string(), options);
}

/// The format that `write_image` chooses for `path`, by its extension: .png, .jpg, .jpeg or .webp in any case.
/// Throws `Error` for another extension, with the command that converts to its format if there is one; call it early to
/// catch a bad name before hours of work.
inline ImageFormat image_format_for(const std::filesystem::path& path) {
  const auto extension = detail::lower_ascii(path.extension().string());
  if (extension == ".png") return ImageFormat::png;
  if (extension == ".jpg" || extension == ".jpeg") return ImageFormat::jpeg;
  require(extension == ".webp", "cannot write '{}': expected the extension .png, .jpg, .jpeg or .webp, got '{}'{}",
          path.string(), extension, detail::conversion_to(extension));
  return ImageFormat::webp;
}

/// Encodes a picture in `format`, with its alpha in PNG and WebP; JPEG has none, and shows the picture over the
/// background that it was read with. `quality` (1..100) applies to the lossy formats; PNG is lossless. `name` is used
/// in messages. Throws `Error` for an inconsistent picture, a quality out of range, sides too long for the format, or a
/// format that is only read.
std::vector<std::byte> encode_picture(const Picture& picture, ImageFormat format, int quality = 95,
                                      std::string_view name = "picture");

/// Encodes an opaque picture; see `encode_picture`.
inline std::vector<std::byte> encode_image(const Image& image, ImageFormat format, int quality = 95,
                                           std::string_view name = "image") {
  return encode_picture({image, {}}, format, quality, name);
}

/// Writes a picture to `path` atomically (see `AtomicFile`), in the format given by the extension (`image_format_for`).
/// Throws `Error` as `encode_picture` does and for file system failures, and then keeps an existing file.
inline void write_picture(const std::filesystem::path& path, const Picture& picture, int quality = 95) {
  write_file_atomically(path, encode_picture(picture, image_format_for(path), quality, path.string()));
}

/// Writes an opaque picture; see `write_picture`.
inline void write_image(const std::filesystem::path& path, const Image& image, int quality = 95) {
  write_picture(path, {image, {}}, quality);
}

/// Copies the picture into a uint8 CPU tensor [3, H, W]. Throws `Error` for an inconsistent image.
inline at::Tensor to_tensor(const Image& image) {
  require_consistent(image, "image");
  at::Tensor interleaved = at::empty({image.height, image.width, 3}, at::TensorOptions().dtype(at::kByte));
  std::memcpy(interleaved.data_ptr<std::uint8_t>(), image.pixels.data(), image.pixels.size());
  return interleaved.permute({2, 0, 1}).contiguous();
}

/// Copies a uint8 tensor [3, H, W] on any device into a picture. Throws `Error` for another shape or dtype.
inline Image from_tensor(const at::Tensor& tensor) {
  require(tensor.defined() && tensor.dim() == 3 && tensor.size(0) == 3 && tensor.size(1) > 0 && tensor.size(2) > 0,
          "image tensor: expected shape [3, H, W], got {}", tensor.defined() ? shape_text(tensor.sizes()) : "none");
  require(tensor.scalar_type() == at::kByte, "image tensor: expected dtype uint8, got {}",
          c10::toString(tensor.scalar_type()));
  const at::Tensor interleaved = tensor.permute({1, 2, 0}).cpu().contiguous();
  const auto* first = interleaved.data_ptr<std::uint8_t>();
  return {tensor.size(2), tensor.size(1), std::vector<std::uint8_t>(first, first + interleaved.numel())};
}

}  // namespace ip2p

#ifndef IP2P_COMPILED  // else it is linked
#include <ip2p/io/image_definitions.hpp>
#endif
