#pragma once

/// \file
/// Pictures of PSD files: the merged picture alone. Not read by stb_image, which converts the numbers of colours that
/// it does not expect beyond their type.

#include <ip2p/core/error.hpp>
#include <ip2p/io/image_types.hpp>
#include <ip2p/io/whole_pictures.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p::detail {

/// Calls `take(bytes, count)` for each run of a row that PackBits packed: `count` times what `bytes` holds.
/// \return false if the last of it is missing
template <class Take>
bool unpack_bits(std::string_view packed, Take&& take) {
  for (std::size_t place = 0; place < packed.size();) {
    const auto head = static_cast<unsigned char>(packed[place]);
    ++place;
    if (head == 128) continue;
    const std::size_t stored = head < 128 ? head + 1u : 1u;
    if (stored > packed.size() - place) return false;
    take(packed.substr(place, stored), head < 128 ? 1u : 257u - head);
    place += stored;
  }
  return true;
}

/// How many bytes a row gives that PackBits packed; more than any row has if the last of it is missing.
inline std::uint64_t unpacked_size(std::string_view packed) {
  std::uint64_t size = 0;
  const bool whole =
      unpack_bits(packed, [&](std::string_view bytes, std::size_t count) { size += bytes.size() * count; });
  return whole ? size : std::numeric_limits<std::uint64_t>::max();
}

/// The merged picture of a PSD file. Its channels are stored one after the other, and in them the rows.
struct PsdPicture {
  std::uint64_t channels = 0, width = 0, height = 0;
  bool wide = false;           ///< Values have 16 bits, the high byte first, instead of 8.
  std::string_view row_bytes;  ///< Two bytes a row: how many it is packed into; empty if rows are not packed.
  std::string_view rows;
};

/// Source: Adobe Photoshop File Formats Specification.
inline PsdPicture require_whole_psd(std::span<const std::byte> content, std::string_view name) {
  PictureBytes in(text_of_bytes(content), name, "PSD");
  in.take(4);
  const auto version = in.high_first<2>();
  in.take(6);
  PsdPicture found;
  found.channels = in.high_first<2>();
  found.height = in.high_first<4>();
  found.width = in.high_first<4>();
  const std::uint64_t depth = in.high_first<2>();
  const auto mode = in.high_first<2>();
  for (int section = 0; section < 3; ++section) in.take(in.high_first<4>());
  const auto compression = in.high_first<2>();
  constexpr std::uint64_t most = 300'000;  // the format's largest side, so that the products below fit
  if (found.height > most || found.width > most || found.channels > 56) {
    in.damaged("it is larger than the format allows");
  }
  require(
      version == 1 && mode == 3 && (depth == 8 || depth == 16) && compression <= 1,
      "{}: unusual PSD: expected version 1, mode 3 (RGB), 8 or 16 bits and compression 0 or 1, found {}, {}, {} and "
      "{}; save it as PNG",
      name, version, mode, depth, compression);
  if (found.channels < 3) in.damaged("RGB has three channels at least");
  found.wide = depth == 16;
  if (compression == 0) {
    found.rows = in.take(found.channels * found.height * found.width * (depth / 8));
    return found;
  }
  require(depth == 8, "{}: unusual PSD: packed values of {} bits, which are not read; save it with 8, or as PNG", name,
          depth);
  found.row_bytes = in.take(found.channels * found.height * 2);
  const auto begin = in.position();
  for (std::size_t i = 0; i < found.row_bytes.size(); i += 2) {
    const auto packed = in.take(big_endian<2>(found.row_bytes, i));
    if (unpacked_size(packed) != found.width) in.damaged("a row is not as long as the picture is wide");
  }
  found.rows = text_of_bytes(content).substr(begin, in.position() - begin);
  return found;
}

/// Decodes the merged picture of PSD `content`, in RGB of 8 or 16 bits. A fourth channel is opacity. Where this is
/// partial, the colours are stored mixed with white; unless alpha is dropped, white is taken out again.
inline Picture decode_psd(std::span<const std::byte> content, std::string_view name, const ReadOptions& options,
                          Depth depth) {
  const auto stored = require_whole_psd(content, name);
  require_limits(stored.width, stored.height, name, options);
  const bool with_alpha = options.alpha != Alpha::drop && stored.channels >= 4;
  const std::size_t channels = with_alpha ? 4 : 3;
  const auto count = static_cast<std::size_t>(stored.width * stored.height);
  std::vector<std::uint16_t> values(count * channels);
  std::size_t row = 0, begin = 0;
  for (std::size_t channel = 0; channel < channels; ++channel) {
    std::size_t place = channel;
    const auto put = [&](std::uint32_t value) {
      values[place] = static_cast<std::uint16_t>(value);
      place += channels;
    };
    if (stored.row_bytes.empty()) {
      const auto from = channel * count;
      for (std::size_t i = from; i < from + count; ++i) {
        put(stored.wide ? big_endian<2>(stored.rows, i * 2) : big_endian<1>(stored.rows, i));
      }
      continue;
    }
    for (std::uint64_t y = 0; y < stored.height; ++y) {
      const auto size = big_endian<2>(stored.row_bytes, 2 * row++);
      unpack_bits(stored.rows.substr(begin, size), [&](std::string_view bytes, std::size_t repeats) {
        for (std::size_t i = 0; i < bytes.size() * repeats; ++i) put(big_endian<1>(bytes, i % bytes.size()));
      });
      begin += size;
    }
  }
  std::vector<std::uint8_t> levels;
  if (stored.wide && depth == Depth::used) {
    levels = used_levels(values, with_alpha);
  } else {
    levels.reserve(values.size());
    for (const auto value : values) levels.push_back(static_cast<std::uint8_t>(stored.wide ? value >> 8 : value));
  }
  if (!with_alpha) {
    Picture picture{blank_image(stored.width, stored.height), {}};
    picture.image.pixels = std::move(levels);
    return picture;
  }
  for (std::size_t i = 0; i < levels.size(); i += 4) {
    if (levels[i + 3] == 0 || levels[i + 3] == 255) continue;
    for (std::size_t channel = 0; channel < 3; ++channel) {
      auto& level = levels[i + channel];  // one that is darker than any mixture becomes black
      level = static_cast<std::uint8_t>(std::max(0l, 255 - std::lround((255 - level) * 255.0 / levels[i + 3])));
    }
  }
  return picture_from_rgba(levels.data(), stored.width, stored.height);
}

}  // namespace ip2p::detail
