#pragma once

/// \file
/// Repairs UTF-8 text that was decoded with the wrong encoding ("cafÃ©"), as ftfy 6.1.1 does.

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ip2p/text/mojibake_signs.hpp"
#include "ip2p/text/text_repair_tables.hpp"
#include "ip2p/text/unicode.hpp"

namespace ip2p::detail::mojibake {

/// Encodes the text in a code page (null for Latin-1); nothing if it has characters that the code page lacks.
inline std::optional<std::string> encode(std::u32string_view text, const CodePage* page) {
  std::string bytes;
  bytes.reserve(text.size());
  for (const char32_t c : text) {
    const bool losses = page != nullptr && page->marks_losses;
    if (losses && c == 0xFFFD) {
      bytes += '\x1A';
    } else if (c < 0x80 && !(losses && c == 0x1A)) {
      bytes += static_cast<char>(c);
    } else if (page == nullptr) {
      if (c > 0xFF) return std::nullopt;
      bytes += static_cast<char>(c);
    } else {
      const auto* found = std::find(std::begin(page->upper), std::end(page->upper), c);
      if (found == std::end(page->upper)) return std::nullopt;
      bytes += static_cast<char>(0x80 + std::distance(std::begin(page->upper), found));
    }
  }
  return bytes;
}

/// One byte of a pattern: a range, plus any of the bytes in `also`.
struct ByteSet {
  unsigned char first, last;
  std::string_view also;
};

/// Whether `bytes` has the pattern at `position`.
template <std::size_t N>
bool has_bytes(std::string_view bytes, std::size_t position, const std::array<ByteSet, N>& pattern) {
  if (position + N > bytes.size()) return false;
  for (std::size_t k = 0; k < N; ++k) {
    const char byte = bytes[position + k];
    const auto value = static_cast<unsigned char>(byte);
    const bool inside = value >= pattern[k].first && value <= pattern[k].last;
    if (!inside && pattern[k].also.find(byte) == std::string_view::npos) return false;
  }
  return true;
}

/// Length of the UTF-8 sequence at `position` in which a blank stands for byte 0xA0, or 0. Leads are those that give
/// likely characters.
inline std::size_t blanked_utf8(std::string_view bytes, std::size_t position) {
  constexpr ByteSet blank{' ', ' ', ""};
  constexpr ByteSet any{0x80, 0xBF, ""};
  const auto inner = [&](std::size_t k) {  // A continuation byte, but not 0x85 or 0xA0.
    return has_bytes<1>(bytes, position + k, {any}) && bytes[position + k] != '\x85' && bytes[position + k] != '\xA0';
  };
  if (has_bytes<2>(bytes, position, {ByteSet{1, 0, "\xC2\xC3\xC5\xCE\xD0\xD9"}, blank})) return 2;
  if (has_bytes<2>(bytes, position, {ByteSet{0xE2, 0xE3, ""}, blank}) && inner(2)) return 3;
  if (has_bytes<3>(bytes, position, {ByteSet{0xE0, 0xE3, ""}, any, blank}) && inner(1)) return 3;
  constexpr ByteSet lead{0xF0, 0xF0, ""};
  if (has_bytes<4>(bytes, position, {lead, blank, any, any}) ||
      has_bytes<4>(bytes, position, {lead, any, blank, any}) ||
      has_bytes<4>(bytes, position, {lead, any, any, blank})) {
    return 4;
  }
  return 0;
}

/// Restores 0xA0 bytes that were turned into spaces. A separate "Ã " is taken as "à" followed by a space, except before
/// the ends of certain Portuguese words.
inline std::string restore_a0(std::string_view bytes) {
  constexpr std::string_view portuguese[] = {" ", "quele", "quela", "quilo", "s "};
  std::string words;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    words += bytes[i];
    if (bytes[i] != '\xC3' || !bytes.substr(i + 1).starts_with(' ')) continue;
    const auto rest = bytes.substr(i + 2);
    const bool joined = std::any_of(std::begin(portuguese), std::end(portuguese),
                                    [&](std::string_view begin) { return rest.starts_with(begin); });
    if (!joined) words += '\xA0';
  }
  for (std::size_t i = 0; i < words.size();) {
    const auto length = blanked_utf8(words, i);
    std::replace(words.begin() + static_cast<std::ptrdiff_t>(i),
                 words.begin() + static_cast<std::ptrdiff_t>(i + length), ' ', '\xA0');
    i += std::max<std::size_t>(length, 1);
  }
  return words;
}

/// Length of the UTF-8 or CESU-8 sequence at `position` of which a byte was lost (0x1A, or once "?"), or 0.
inline std::size_t lossy_utf8(std::string_view bytes, std::size_t position) {
  constexpr ByteSet lost{0x1A, 0x1A, "?"};
  constexpr ByteSet any{0x80, 0xBF, "\x1A"};
  constexpr ByteSet surrogate{0xED, 0xED, ""}, high{0xA0, 0xAF, ""}, low{0xB0, 0xBF, ""};
  constexpr ByteSet three{0xE0, 0xEF, ""}, four{0xF0, 0xF4, ""};
  if (has_bytes<2>(bytes, position, {ByteSet{0xC2, 0xDF, ""}, ByteSet{0x1A, 0x1A, ""}})) return 2;
  if (has_bytes<2>(bytes, position, {ByteSet{0xC2, 0xC3, ""}, ByteSet{'?', '?', ""}})) return 2;
  constexpr ByteSet any_or_lost{0x80, 0xBF, "\x1A?"};
  if (has_bytes<6>(bytes, position, {surrogate, high, lost, surrogate, low, any_or_lost})) return 6;
  if (has_bytes<6>(bytes, position, {surrogate, high, any_or_lost, surrogate, low, lost})) return 6;
  if (has_bytes<3>(bytes, position, {three, lost, any}) || has_bytes<3>(bytes, position, {three, any, lost})) return 3;
  if (has_bytes<4>(bytes, position, {four, lost, any, any}) || has_bytes<4>(bytes, position, {four, any, lost, any}) ||
      has_bytes<4>(bytes, position, {four, any, any, lost})) {
    return 4;
  }
  return has_bytes<1>(bytes, position, {ByteSet{0x1A, 0x1A, ""}}) ? 1 : 0;
}

/// Replaces each sequence in which a byte was lost by U+FFFD.
inline std::string replace_losses(std::string_view bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size();) {
    const auto length = lossy_utf8(bytes, i);
    if (length == 0) {
      out += bytes[i++];
    } else {
      out += "\xEF\xBF\xBD";
      i += length;
    }
  }
  return out;
}

/// Decodes UTF-8, CESU-8 (surrogates) or Java's UTF-8 (U+0000 as two bytes); nothing if the bytes are none of these.
inline std::optional<std::u32string> decode_variants(std::string_view bytes) {
  std::string plain;
  for (std::size_t i = 0; i < bytes.size();) {
    constexpr ByteSet surrogate{0xED, 0xED, ""}, any{0x80, 0xBF, ""};
    if (bytes.substr(i).starts_with("\xC0\x80")) {
      plain += '\0';
      i += 2;
    } else if (has_bytes<6>(bytes, i,
                            {surrogate, ByteSet{0xA0, 0xAF, ""}, any, surrogate, ByteSet{0xB0, 0xBF, ""}, any})) {
      const auto bits = [&](std::size_t k, unsigned mask) { return static_cast<unsigned char>(bytes[i + k]) & mask; };
      append_utf8(plain,
                  0x10000 + (bits(1, 0x0F) << 16) + (bits(2, 0x3F) << 10) + (bits(4, 0x0F) << 6) + bits(5, 0x3F));
      i += 6;
    } else {
      plain += bytes[i++];
    }
  }
  auto text = decode_utf8(plain, InvalidUtf8::replace);
  if (encode_utf8(text) != plain) return std::nullopt;  // ill-formed bytes were replaced
  return text;
}

/// Replaces C1 controls by the characters that Windows-1252 has at those positions.
inline std::u32string c1_as_windows(std::u32string_view text) {
  std::u32string out(text);
  for (char32_t& c : out) {
    if (c >= 0x80 && c < 0xA0) c = code_pages[0].upper[c - 0x80];
  }
  return out;
}

inline std::u32string undo(std::u32string text);

/// Repairs those parts of the text that look like misread UTF-8 on their own.
inline std::u32string undo_in_parts(std::u32string_view text) {
  const auto classes = [&](std::size_t i) { return i < text.size() ? character_classes(text[i]) : 0; };
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    while (i == 0 || (classes(i - 1) & strict_continuation) == 0) {
      const auto first = classes(end);
      const std::size_t length = first & first_of_2 ? 2 : first & first_of_3 ? 3 : first & first_of_4 ? 4 : 0;
      std::size_t k = 1;
      while (k < length && (classes(end + k) & continuation) != 0) ++k;
      if (length == 0 || k < length) break;
      end += length;
    }
    const auto part = text.substr(i, end - i);
    if (end == i) {
      out.push_back(text[i++]);
    } else {
      const bool whole = part.size() == text.size();
      out += !whole && is_mojibake(part) ? undo(std::u32string(part)) : std::u32string(part);
      i = end;
    }
  }
  return out;
}

/// Undoes one wrong decoding. Returns the text unchanged if it looks fine or cannot be repaired.
inline std::u32string undo_one_reading(const std::u32string& text) {
  if (!is_mojibake(text)) return text;
  for (std::size_t page = 0; page <= std::size(code_pages); ++page) {
    const CodePage* const one = page == 0 ? nullptr : &code_pages[page - 1];
    auto bytes = encode(text, one);
    if (!bytes) continue;
    bool blanked = false;
    for (std::size_t i = 0; i < bytes->size() && !blanked; ++i) blanked = blanked_utf8(*bytes, i) != 0;
    if (blanked) bytes = restore_a0(*bytes);
    if (one != nullptr && one->marks_losses) bytes = replace_losses(*bytes);
    if (auto read = decode_variants(*bytes)) return *std::move(read);
  }
  if (auto parts = undo_in_parts(text); parts != text) return parts;
  // Windows-1252 that was decoded as Latin-1: C1 controls do not occur in text.
  return c1_as_windows(text);
}

/// Recovers UTF-8 text that was decoded with the wrong encoding, possibly several times.
inline std::u32string undo(std::u32string text) {
  for (;;) {
    auto next = undo_one_reading(text);
    if (next == text) return text;
    text = std::move(next);
  }
}

}  // namespace ip2p::detail::mojibake
