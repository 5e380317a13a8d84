#pragma once

/// \file
/// The definitions behind picture_settings.hpp.

#include <ip2p/core/definitions.hpp>
#include <ip2p/core/error.hpp>
#include <ip2p/io/atomic_file.hpp>
#include <ip2p/io/crc32.hpp>
#include <ip2p/io/exif.hpp>
#include <ip2p/io/image.hpp>
#include <ip2p/io/image_format.hpp>
#include <ip2p/io/jpeg_segments.hpp>
#include <ip2p/io/picture_settings.hpp>
#include <ip2p/io/png_chunks.hpp>
#include <ip2p/io/utf8.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if !defined(IP2P_COMPILED) || defined(IP2P_DEFINITIONS)  // else they are linked
namespace ip2p {

namespace detail {

/// A number of `Bytes` bytes, its high byte first.
template <int Bytes>
std::string big_endian_text(std::uint64_t value) {
  std::string bytes;
  for (int i = Bytes - 1; i >= 0; --i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

/// The same, its low byte first.
template <int Bytes>
std::string little_endian_text(std::uint64_t value) {
  auto bytes = big_endian_text<Bytes>(value);
  std::reverse(bytes.begin(), bytes.end());
  return bytes;
}

/// The little-endian number of `Bytes` bytes at `offset`, which must lie within `bytes`.
template <int Bytes>
std::uint32_t little_endian(std::string_view bytes, std::size_t offset) {
  std::uint32_t value = 0;
  for (std::size_t i = Bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}

/// Well-formed UTF-8 in UTF-16, high bytes first.
inline std::string utf16_of(std::string_view text) {
  std::string units;
  const auto unit = [&](std::uint32_t value) { units += big_endian_text<2>(value); };
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    std::uint32_t point = length == 1 ? lead : lead & (0x7fU >> length);
    for (std::size_t k = 1; k < length; ++k) point = point << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3f);
    if (point < 0x10000) {
      unit(point);
    } else {
      unit(0xD800 + ((point - 0x10000) >> 10));
      unit(0xDC00 + ((point - 0x10000) & 0x3ff));
    }
    i += length;
  }
  return units;
}

/// UTF-16 in UTF-8; a half of a pair that stands alone becomes U+FFFD.
inline std::string utf8_of_utf16(std::string_view bytes, bool little) {
  std::string text;
  const auto unit = [&](std::size_t i) { return little ? little_endian<2>(bytes, i) : big_endian<2>(bytes, i); };
  for (std::size_t i = 0; i + 2 <= bytes.size(); i += 2) {
    std::uint32_t point = unit(i);
    if (point >= 0xD800 && point < 0xE000) {
      const std::uint32_t next = point < 0xDC00 && i + 4 <= bytes.size() ? unit(i + 2) : 0;
      const bool pair = next >= 0xDC00 && next < 0xE000;
      point = pair ? 0x10000 + ((point - 0xD800) << 10) + (next - 0xDC00) : 0xFFFD;
      if (pair) i += 2;
    }
    const auto add = [&](std::uint32_t byte) { text += static_cast<char>(byte); };
    if (point < 0x80) {
      add(point);
    } else if (point < 0x800) {
      add(0xC0 | point >> 6);
      add(0x80 | (point & 0x3f));
    } else {
      if (point < 0x10000) {
        add(0xE0 | point >> 12);
      } else {
        add(0xF0 | point >> 18);
        add(0x80 | (point >> 12 & 0x3f));
      }
      add(0x80 | (point >> 6 & 0x3f));
      add(0x80 | (point & 0x3f));
    }
  }
  return text;
}

/// An EXIF block, a TIFF structure, whose only entry is a UserComment. Source: EXIF 2.32, 4.6.
inline std::string exif_with_comment(std::string_view text) {
  const auto comment = std::string("UNICODE\0", 8) + utf16_of(text);
  const auto entry = [](std::uint32_t tag, std::uint32_t type, std::uint64_t count, std::uint64_t value) {
    return big_endian_text<2>(1) + big_endian_text<2>(tag) + big_endian_text<2>(type) + big_endian_text<4>(count) +
           big_endian_text<4>(value) + big_endian_text<4>(0);  // one entry, and no other directory
  };
  constexpr std::uint32_t of_long = 4, of_bytes = 7;
  return std::string("MM\0*", 4) + big_endian_text<4>(8) + entry(0x8769, of_long, 1, 26) +
         entry(0x9286, of_bytes, comment.size(), 44) + comment;
}

/// The UserComment of an EXIF block, or nothing if it has none or is damaged.
inline std::optional<std::string> exif_comment(std::span<const std::byte> exif) {
  std::string_view block(reinterpret_cast<const char*>(exif.data()), exif.size());
  if (block.starts_with(std::string_view("Exif\0\0", 6))) block.remove_prefix(6);
  if (block.size() < 8) return {};
  const bool little = block.starts_with("II");
  if (!little && !block.starts_with("MM")) return {};
  const auto u16 = [&](std::size_t offset) {
    return little ? little_endian<2>(block, offset) : big_endian<2>(block, offset);
  };
  const auto u32 = [&](std::size_t offset) {
    return little ? little_endian<4>(block, offset) : big_endian<4>(block, offset);
  };
  // The offset of the entry `tag` in the directory at `directory`.
  const auto find = [&](std::size_t directory, std::uint32_t tag) -> std::optional<std::size_t> {
    if (directory > block.size() - 2) return {};
    const std::size_t entries = u16(directory);
    for (std::size_t i = 0; i < entries; ++i) {
      const std::size_t entry = directory + 2 + i * 12;
      if (entry + 12 > block.size()) return {};
      if (u16(entry) == tag) return entry;
    }
    return {};
  };
  const auto details = find(u32(4), 0x8769);
  if (!details) return {};
  const auto found = find(u32(*details + 8), 0x9286);
  if (!found) return {};
  const std::size_t length = u32(*found + 4), offset = u32(*found + 8);
  if (length < 8 || offset > block.size() || length > block.size() - offset) return {};
  const auto kind = block.substr(offset, 8), text = block.substr(offset + 8, length - 8);
  if (kind.starts_with("UNICODE")) return utf8_of_utf16(text, little);
  if (!kind.starts_with("ASCII") || first_invalid_utf8(text)) return {};
  return std::string(text);
}

/// The characters that XML gives another meaning in an attribute, and what stands for them.
inline constexpr std::array<std::pair<char, std::string_view>, 7> xml_characters{
    {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\t', "&#9;"}, {'\n', "&#10;"}, {'\r', "&#13;"}}};

/// An XMP packet whose only property is `json`. Source: XMP specification, part 1, 7.
inline std::string xmp_with_settings(std::string_view json) {
  std::string value;
  for (const char c : json) {
    const auto* special = std::find_if(xml_characters.begin(), xml_characters.end(),
                                       [c](const auto& character) { return character.first == c; });
    value += special == xml_characters.end() ? std::string_view(&c, 1) : special->second;
  }
  return "<?xpacket begin=\"\xEF\xBB\xBF\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?><x:xmpmeta xmlns:x=\"adobe:ns:meta/\">"
         "<rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description rdf:about=\"\" "
         "xmlns:ip2p=\"urn:ip2p:1.0:\" ip2p:settings=\"" +
         value + "\"/></rdf:RDF></x:xmpmeta><?xpacket end=\"w\"?>";
}

/// The settings in an XMP packet, or nothing.
inline std::optional<std::string> settings_of_xmp(std::string_view xmp) {
  constexpr std::string_view key = "ip2p:settings=\"";
  const auto begin = xmp.find(key);
  if (begin == std::string_view::npos) return {};
  auto value = xmp.substr(begin + key.size());
  const auto end = value.find('"');
  if (end == std::string_view::npos) return {};
  value = value.substr(0, end);
  std::string json;
  while (!value.empty()) {
    const auto* special = std::find_if(xml_characters.begin(), xml_characters.end(),
                                       [&](const auto& character) { return value.starts_with(character.second); });
    const bool plain = special == xml_characters.end();
    json += plain ? value.front() : special->first;
    value.remove_prefix(plain ? 1 : special->second.size());
  }
  if (first_invalid_utf8(json)) return {};
  return json;
}

/// A chunk of a PNG file.
inline std::string png_chunk(std::string_view type, std::string_view data) {
  const auto body = std::string(type) + std::string(data);
  return big_endian_text<4>(data.size()) + body + big_endian_text<4>(crc32(std::as_bytes(std::span(body))));
}

/// A PNG chunk of text: tEXt if it is ASCII, which more programs read, else iTXt, which is UTF-8.
inline std::string png_text_chunk(std::string_view keyword, std::string_view text) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  const auto name = std::string(keyword) + '\0';
  // Not compressed, and neither a language nor a translated keyword.
  return ascii ? png_chunk("tEXt", name + std::string(text))
               : png_chunk("iTXt", name + std::string("\0\0\0\0", 4) + std::string(text));
}

/// A segment APP1 of a JPEG file.
inline std::string jpeg_app1(std::string_view data, std::string_view name) {
  constexpr std::size_t most = 65533;
  require(data.size() <= most, "{}: settings: expected at most {} bytes of metadata in a JPEG file, found {}", name,
          most, data.size());
  return "\xff\xe1" + big_endian_text<2>(data.size() + 2) + std::string(data);
}

/// A chunk of a WebP file, padded to an even length.
inline std::string webp_chunk(std::string_view type, std::string_view data) {
  auto chunk = std::string(type) + little_endian_text<4>(data.size()) + std::string(data);
  if (data.size() % 2 != 0) chunk += '\0';
  return chunk;
}

/// Calls `visit(type, data)` for the chunks of a WebP file, up to the first that is cut off.
template <class Visit>
void visit_webp_chunks(std::string_view bytes, Visit&& visit) {
  for (std::size_t offset = 12; offset + 8 <= bytes.size();) {
    const std::size_t length = little_endian<4>(bytes, offset + 4);
    if (length > bytes.size() - offset - 8) return;
    visit(bytes.substr(offset, 4), bytes.substr(offset + 8, length));
    offset += 8 + length + length % 2;
  }
}

/// The chunk VP8X that a WebP file needs for metadata, from its first chunk, which is that or the picture.
/// \param flags of the metadata
inline std::string webp_header(std::string_view type, std::string_view data, std::uint32_t flags,
                               std::string_view name) {
  if (type == "VP8X" && data.size() >= 10) {
    auto header = std::string(data);
    header[0] = static_cast<char>(static_cast<unsigned char>(header[0]) | flags);
    return header;
  }
  std::uint32_t width = 0, height = 0;
  if (type == "VP8 " && data.size() >= 10) {
    width = little_endian<2>(data, 6) & 0x3fff;
    height = little_endian<2>(data, 8) & 0x3fff;
  } else if (type == "VP8L" && data.size() >= 5) {
    const auto bits = little_endian<4>(data, 1);
    width = (bits & 0x3fff) + 1;
    height = (bits >> 14 & 0x3fff) + 1;
    if ((bits >> 28 & 1) != 0) flags |= 0x10;
  }
  require(width > 0 && height > 0, "{}: settings: expected a whole WebP file to add them to", name);
  return little_endian_text<4>(flags) + little_endian_text<3>(width - 1) + little_endian_text<3>(height - 1);
}

}  // namespace detail

IP2P_INLINE std::vector<std::byte> with_settings(std::span<const std::byte> encoded, const PictureSettings& settings,
                                                 std::string_view name) {
  constexpr std::size_t most = std::size_t{1} << 20;  // what is read again
  for (const auto* text : {&settings.text, &settings.json}) {
    const auto invalid = detail::first_invalid_utf8(*text);
    require(!invalid && text->find('\0') == std::string::npos && text->size() <= most,
            "{}: settings: expected at most {} bytes of UTF-8 without zeros", name, most);
  }
  const std::string_view bytes(reinterpret_cast<const char*>(encoded.data()), encoded.size());
  const auto format = sniff_image_format(encoded, name);
  std::string file;
  if (format == ImageFormat::png) {
    constexpr std::size_t head = 8 + 25;  // signature and IHDR
    require(bytes.size() >= head, "{}: settings: expected a whole PNG file to add them to", name);
    file = bytes.substr(0, head);
    if (!settings.text.empty()) file += detail::png_text_chunk("parameters", settings.text);
    if (!settings.json.empty()) file += detail::png_text_chunk("ip2p", settings.json);
    file += bytes.substr(head);
  } else if (format == ImageFormat::jpeg) {
    std::size_t head = 2;
    if (bytes.size() >= 6 && bytes.substr(2).starts_with("\xff\xe0")) head += 2 + detail::big_endian<2>(bytes, 4);
    require(head <= bytes.size(), "{}: settings: expected a whole JPEG file to add them to", name);
    file = bytes.substr(0, head);
    if (!settings.text.empty()) {
      file += detail::jpeg_app1(std::string("Exif\0\0", 6) + detail::exif_with_comment(settings.text), name);
    }
    if (!settings.json.empty()) {
      file += detail::jpeg_app1(
          std::string("http://ns.adobe.com/xap/1.0/\0", 29) + detail::xmp_with_settings(settings.json), name);
    }
    file += bytes.substr(head);
  } else {
    require(format == ImageFormat::webp, "{}: settings: expected a PNG, JPEG or WebP file to add them to", name);
    constexpr std::uint32_t has_exif = 0x08, has_xmp = 0x04;
    const std::uint32_t flags = (settings.text.empty() ? 0 : has_exif) | (settings.json.empty() ? 0 : has_xmp);
    std::string chunks;
    detail::visit_webp_chunks(bytes, [&](std::string_view type, std::string_view data) {
      if (chunks.empty()) chunks = detail::webp_chunk("VP8X", detail::webp_header(type, data, flags, name));
      if (type != "VP8X") chunks += detail::webp_chunk(type, data);
    });
    require(chunks.size() + 12 >= bytes.size(), "{}: settings: expected a whole WebP file to add them to", name);
    if (!settings.text.empty()) chunks += detail::webp_chunk("EXIF", detail::exif_with_comment(settings.text));
    if (!settings.json.empty()) chunks += detail::webp_chunk("XMP ", detail::xmp_with_settings(settings.json));
    file = "RIFF" + detail::little_endian_text<4>(chunks.size() + 4) + "WEBP" + chunks;
  }
  const auto view = std::as_bytes(std::span(file));
  return {view.begin(), view.end()};
}

IP2P_INLINE std::optional<PictureSettings> decode_settings(std::span<const std::byte> content, std::string_view name) {
  PictureSettings found;
  std::vector<std::byte> exif;
  std::string xmp;
  const auto format = sniff_image_format(content, name);
  if (format == ImageFormat::png) {
    detail::visit_png_chunks(content, name, true, [&](std::string_view type, std::string_view data) {
      if (type != "tEXt" && type != "zTXt" && type != "iTXt") return;
      // The keyword is looked at first, so that no other text is unpacked.
      const bool is_text = data.starts_with(std::string_view("parameters\0", 11));
      if (!is_text && !data.starts_with(std::string_view("ip2p\0", 5))) return;
      auto text = detail::png_text(type, data);
      if (text && !detail::first_invalid_utf8(text->second)) {
        (is_text ? found.text : found.json) = std::move(text->second);
      }
    });
  } else if (format == ImageFormat::jpeg) {
    auto metadata = detail::read_jpeg_header(content).metadata;
    exif = std::move(metadata.exif);
    xmp = std::move(metadata.xmp);
  } else if (format == ImageFormat::webp) {
    const std::string_view bytes(reinterpret_cast<const char*>(content.data()), content.size());
    detail::visit_webp_chunks(bytes, [&](std::string_view type, std::string_view data) {
      if (type == "EXIF") exif = detail::bytes_of_text(data);
      if (type == "XMP ") xmp = data;
    });
  }
  if (format != ImageFormat::png) {
    found.text = detail::exif_comment(exif).value_or("");
    found.json = detail::settings_of_xmp(xmp).value_or("");
  }
  if (found == PictureSettings{}) return {};
  return found;
}

IP2P_INLINE std::optional<PictureSettings> read_settings(const std::filesystem::path& path) {
  return decode_settings(detail::read_picture_file(path, {}), path.string());
}

IP2P_INLINE void write_picture(const std::filesystem::path& path, const Picture& picture,
                               const PictureSettings& settings, int quality) {
  const auto encoded = encode_picture(picture, image_format_for(path), quality, path.string());
  write_file_atomically(path, with_settings(encoded, settings, path.string()));
}

}  // namespace ip2p
#endif
