#pragma once

/// \file
/// Whether picture files are complete, for formats whose decoder silently fills in missing parts with black. Each check
/// throws `Error` if pixels are missing, and leaves anything unusual to the decoder.

#include <ip2p/core/error.hpp>
#include <ip2p/io/jpeg_segments.hpp>
#include <ip2p/io/png_chunks.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ip2p::detail {

/// A cursor over a file's bytes. Reading past the end throws `Error`.
class PictureBytes {
 public:
  PictureBytes(std::string_view bytes, std::string_view name, std::string_view format)
      : bytes_(bytes), name_(name), format_(format) {}

  [[nodiscard]] std::size_t position() const { return position_; }

  /// The next `count` bytes.
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - position_) cut_off();
    const auto taken = bytes_.substr(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return taken;
  }

  /// The next number of `Bytes` bytes, the high byte first or last.
  template <int Bytes>
  std::uint32_t high_first() {
    return big_endian<Bytes>(take(Bytes), 0);
  }
  template <int Bytes>
  std::uint32_t low_first() {
    const auto taken = take(Bytes);
    std::uint32_t value = 0;
    for (int i = Bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(taken[static_cast<std::size_t>(i)]);
    return value;
  }

  [[noreturn]] void cut_off() const {
    throw_error("{}: truncated {}: its pixels are more than the file's {} bytes", name_, format_, bytes_.size());
  }
  [[noreturn]] void damaged(std::string_view what) const { throw_error("{}: corrupt {}: {}", name_, format_, what); }

 private:
  std::string_view bytes_, name_, format_;
  std::size_t position_ = 0;
};

inline std::string_view text_of_bytes(std::span<const std::byte> content) {
  return {reinterpret_cast<const char*>(content.data()), content.size()};
}

/// Source: the structures BITMAPFILEHEADER and BITMAPINFOHEADER of Windows.
inline void require_whole_bmp(std::span<const std::byte> content, std::string_view name) {
  PictureBytes in(text_of_bytes(content), name, "BMP");
  in.take(10);
  const std::uint64_t pixels = in.low_first<4>();
  const auto header = in.low_first<4>();
  if (pixels < std::uint64_t{14} + header) in.damaged("its pixels begin within its header");
  const bool old = header == 12;
  const auto width = static_cast<std::int32_t>(old ? in.low_first<2>() : in.low_first<4>());
  const auto height = static_cast<std::int32_t>(old ? in.low_first<2>() : in.low_first<4>());
  in.take(2);
  const std::uint64_t bits = in.low_first<2>();
  const auto compression = old ? 0 : in.low_first<4>();
  if (compression > 0xffff) in.damaged("its kind of compression is none");
  if (!old) in.take(12);
  const std::uint64_t used = old ? 0 : in.low_first<4>();
  if (bits <= 8) {
    const auto most = std::uint64_t{1} << bits, colours = used == 0 ? most : std::min(used, most);
    if (pixels < std::uint64_t{14} + header + colours * (old ? 3 : 4))
      in.damaged("its palette reaches into its pixels");
  }
  if (width <= 0 || (compression != 0 && compression != 3)) return;
  const std::uint64_t row = (static_cast<std::uint64_t>(width) * bits + 31) / 32 * 4;
  const auto rows = static_cast<std::uint64_t>(height < 0 ? -static_cast<std::int64_t>(height) : height);
  PictureBytes(text_of_bytes(content), name, "BMP").take(pixels + row * rows);
}

/// How many pixels GIF's LZW `codes` give, at most `wanted`. Nothing if a code is impossible.
inline std::optional<std::size_t> gif_pixels(const std::string& codes, unsigned code_size, std::size_t wanted) {
  constexpr std::uint32_t none = 1u << 31;
  std::array<std::uint32_t, 4096> length{};
  const std::uint32_t clear = 1u << code_size, end = clear + 1;
  std::uint32_t next = end + 1, bits = code_size + 1, held = 0, held_bits = 0;
  std::uint32_t previous = none;
  std::size_t pixels = 0;
  for (std::uint32_t i = 0; i < clear; ++i) length[i] = 1;
  for (const char c : codes) {
    held |= static_cast<std::uint32_t>(static_cast<unsigned char>(c)) << held_bits;
    held_bits += 8;
    while (held_bits >= bits) {
      const std::uint32_t code = held & ((1u << bits) - 1);
      held >>= bits;
      held_bits -= bits;
      if (code == end) return pixels;
      if (code == clear) {
        next = end + 1;
        bits = code_size + 1;
        previous = none;
        continue;
      }
      if (code > next || (code == next && previous == none)) return {};
      const bool is_new = previous != none && next < length.size();
      if (is_new) length[next++] = length[previous] + 1;
      if (code >= next) return {};
      pixels += length[code];
      if (pixels >= wanted) return wanted;
      previous = code;
      if (next == 1u << bits && bits < 12) ++bits;
    }
  }
  return pixels;
}

/// The first frame's pixels must all be there, and the file's end. Source: the GIF89a specification.
/// \return where the bytes are whose lowest bit says whether one of the first frame's colours stands for clear
inline std::vector<std::size_t> require_whole_gif(std::span<const std::byte> content, std::string_view name) {
  PictureBytes in(text_of_bytes(content), name, "GIF");
  in.take(10);
  const auto table = [&](std::uint32_t flags) {
    if ((flags & 0x80) != 0) in.take(std::uint64_t{3} << ((flags & 7) + 1));
  };
  const auto flags = in.low_first<1>();
  in.take(2);
  table(flags);
  std::vector<std::size_t> clear_flags;
  bool first = true;
  while (true) {
    const auto kind = in.low_first<1>();
    if (kind == 0x3b) break;
    unsigned code_size = 0;
    std::size_t wanted = 0;
    bool describes = false;
    if (kind == 0x21) {
      describes = in.low_first<1>() == 0xf9 && first;
    } else if (kind == 0x2c) {
      in.take(4);
      const std::size_t width = in.low_first<2>(), height = in.low_first<2>();
      table(in.low_first<1>());
      code_size = in.low_first<1>();
      wanted = width * height;
      if (code_size < 1 || code_size > 11) in.damaged("its codes have an impossible size");
    } else {
      in.damaged("expected a block of a picture or of its description");
    }
    std::string codes;
    while (const auto count = in.low_first<1>()) {
      if (std::exchange(describes, false)) clear_flags.push_back(in.position());
      const auto part = in.take(count);
      if (first && kind == 0x2c) codes += part;
    }
    if (first && kind == 0x2c) {
      if (gif_pixels(codes, code_size, wanted) != wanted) in.damaged("pixels of the first frame are missing");
      first = false;
    }
  }
  if (first) in.damaged("expected a picture, found none");
  return clear_flags;
}

/// What the header of a TGA file says. Source: Truevision TGA File Format Specification 2.0.
struct TgaHeader {
  std::uint64_t pixels = 0;  ///< Where they begin.
  std::uint64_t count = 0;   ///< How many there are.
  std::uint32_t bytes = 0;   ///< For each.
  bool packed = false, opaque = false;

  /// \param bytes for which `looks_like_tga` holds
  static TgaHeader read(std::string_view bytes) {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i])); };
    const auto u16 = [&](std::size_t i) { return byte(i) | byte(i + 1) << 8; };
    TgaHeader header;
    header.pixels = 18 + byte(0) + (byte(1) == 1 ? std::uint64_t{u16(5)} * ((byte(7) + 7) / 8) : 0);
    header.count = std::uint64_t{u16(12)} * u16(14);
    header.bytes = (byte(16) + 7) / 8;
    header.packed = (byte(2) & 8) != 0;
    header.opaque = (byte(2) & ~8u) != 2 || (byte(17) & 15) == 0;
    return header;
  }
};

inline void require_whole_tga(std::span<const std::byte> content, std::string_view name) {
  const auto header = TgaHeader::read(text_of_bytes(content));
  PictureBytes in(text_of_bytes(content), name, "TGA");
  in.take(header.pixels);
  if (!header.packed) {
    in.take(header.count * header.bytes);
    return;
  }
  for (std::uint64_t done = 0; done < header.count;) {
    const auto head = in.low_first<1>();
    const std::uint64_t run = (head & 127) + 1;
    in.take((head & 128) != 0 ? header.bytes : run * header.bytes);
    done += run;
  }
}

/// The header of a binary PNM file (P5 or P6). Source: the pages pgm(5) and ppm(5) of Netpbm.
struct PnmHeader {
  std::uint64_t width = 0, height = 0;
  std::uint32_t largest = 0;  ///< The value that is white.
  std::string_view values;    ///< One or three a pixel, of one byte, or of two if `largest` is over 255.
  bool colour = false;
};

inline PnmHeader require_whole_pnm(std::span<const std::byte> content, std::string_view name) {
  PictureBytes in(text_of_bytes(content), name, "PNM");
  const bool colour = in.take(2) == "P6";
  std::uint64_t numbers[3] = {};
  char c = in.take(1)[0];
  for (auto& number : numbers) {
    while (std::isspace(static_cast<unsigned char>(c)) != 0 || c == '#') {
      if (c == '#') {
        while (c != '\n' && c != '\r') c = in.take(1)[0];
      }
      c = in.take(1)[0];
    }
    if (c < '0' || c > '9') in.damaged("expected a number in its header");
    for (; c >= '0' && c <= '9'; c = in.take(1)[0]) {
      number = number * 10 + static_cast<std::uint64_t>(c - '0');
      if (number > 0x7fffffff) in.damaged("a number in its header is too large");
    }
    const bool last = &number == &numbers[2];
    if (std::isspace(static_cast<unsigned char>(c)) == 0 && (last || c != '#')) {
      in.damaged("expected white space after a number in its header");
    }
  }
  if (numbers[2] == 0 || numbers[2] > 65535) in.damaged("expected a largest value of 1 to 65535");
  const auto values = in.take(numbers[0] * numbers[1] * (colour ? 3 : 1) * (numbers[2] > 255 ? 2 : 1));
  return {numbers[0], numbers[1], static_cast<std::uint32_t>(numbers[2]), values, colour};
}

/// Source: Ward, Real Pixels, in Graphics Gems II (1991), and the format's page of Radiance.
inline void require_whole_hdr(std::span<const std::byte> content, std::string_view name) {
  PictureBytes in(text_of_bytes(content), name, "HDR");
  const auto line = [&] {
    std::string text;
    for (char c = in.take(1)[0]; c != '\n'; c = in.take(1)[0]) text += c;
    return text;
  };
  while (!line().empty()) {
  }
  const auto size = line();
  unsigned height = 0, width = 0;
  if (std::sscanf(size.c_str(), "-Y %9u +X %9u", &height, &width) != 2) return;  // turned: stb refuses it
  const auto bytes = text_of_bytes(content);
  const auto starts_packed = [&] {
    const auto head = bytes.substr(std::min(in.position(), bytes.size()), 4);
    return width >= 8 && width < 32768 && head.size() == 4 && head.starts_with("\2\2") &&
           static_cast<unsigned char>(head[2]) < 128;
  };
  if (!starts_packed()) {
    in.take(std::uint64_t{height} * width * 4);
    return;
  }
  for (unsigned y = 0; y < height; ++y) {
    if (!starts_packed()) {
      in.take(4);
      in.damaged("a row does not begin as the others do");
    }
    in.take(4);
    for (int channel = 0; channel < 4; ++channel) {
      for (unsigned x = 0; x < width;) {
        const auto count = in.low_first<1>();
        const unsigned run = count > 128 ? count - 128 : count;
        if (run == 0 || run > width - x) in.damaged("a row is longer than the picture");
        in.take(count > 128 ? 1 : run);
        x += run;
      }
    }
  }
}

/// The tables of a DHT segment: each has at most 256 codes, and its values are there. Source: ITU T.81, B.2.4.2.
inline void require_sound_jpeg_codes(std::string_view segment, std::string_view name) {
  while (!segment.empty()) {
    std::size_t codes = 0;
    for (std::size_t i = 1; i <= 16 && i < segment.size(); ++i) codes += static_cast<unsigned char>(segment[i]);
    require(segment.size() >= 17 && codes <= 256 && codes <= segment.size() - 17,
            "{}: corrupt or truncated JPEG: Bogus Huffman table definition", name);
    segment.remove_prefix(17 + codes);
  }
}

/// The segments, the tables of codes, the order of restart marks, and the mark of the end. Source: ITU T.81, annex B.
inline void require_whole_jpeg(std::span<const std::byte> content, std::string_view name) {
  const auto bytes = text_of_bytes(content);
  const auto cut_off = [&] { throw_error("{}: corrupt or truncated JPEG: Premature end of JPEG file", name); };
  std::size_t offset = 2;
  bool scanned = false;
  while (true) {
    if (offset + 2 > bytes.size()) cut_off();
    if (bytes[offset] != '\xff') {
      // Among the pixels, the decoder has lost its place; between segments before them, it is padding.
      require(!scanned, "{}: corrupt or truncated JPEG: extraneous bytes before a marker", name);
      ++offset;
      continue;
    }
    const auto marker = static_cast<unsigned char>(bytes[offset + 1]);
    if (marker == 0xff) {
      ++offset;
      continue;
    }
    if (marker == 0xd9) {
      require(scanned, "{}: corrupt or truncated JPEG: it ends before its pixels", name);
      return;
    }
    require(marker >= 0xc0 && !(marker >= 0xd0 && marker <= 0xd8) && (marker < 0xf0 || marker == 0xfe),
            "{}: corrupt or truncated JPEG: unexpected marker 0x{:02x}", name, marker);
    if (offset + 4 > bytes.size()) cut_off();
    const std::size_t length = big_endian<2>(bytes, offset + 2);
    if (length < 2 || length > bytes.size() - offset - 2) cut_off();
    if (marker == 0xc4) require_sound_jpeg_codes(bytes.substr(offset + 4, length - 2), name);
    offset += length + 2;
    if (marker != 0xda) continue;
    scanned = true;
    for (unsigned restart = 0;; ++offset) {
      offset = bytes.find('\xff', offset);
      if (offset == std::string_view::npos || offset + 1 >= bytes.size()) cut_off();
      const auto next = static_cast<unsigned char>(bytes[offset + 1]);
      if (next == 0xff) continue;
      if (next == 0) {
        // A stuffed byte; after further 0xff it would be one that no encoder writes.
        require(offset == 0 || bytes[offset - 1] != '\xff', "{}: corrupt or truncated JPEG: bytes 0xff in a row", name);
        continue;
      }
      if (next < 0xd0 || next > 0xd7) break;
      require(next == 0xd0 + restart % 8, "{}: corrupt or truncated JPEG: restart mark {} is out of order", name,
              next - 0xd0);
      ++restart;
    }
  }
}

}  // namespace ip2p::detail
