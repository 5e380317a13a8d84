#pragma once

/// \file
/// Text repair as done by the released program's tokenizer before splitting words: ftfy 6.1.1 and Python's `lower`.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "ip2p/text/mojibake.hpp"
#include "ip2p/text/text_repair_tables.hpp"
#include "ip2p/text/unicode.hpp"

namespace ip2p {

namespace detail {

/// The text that an HTML entity stands for, or nothing if it is unknown. \param name without & and ;
inline std::optional<std::u32string> html_entity(std::string_view name) {
  static const auto table = [] {
    std::unordered_map<std::string_view, std::string_view> map;
    for (auto rest = html_entities; !rest.empty();) {
      const auto end = rest.find(';');
      const auto blank = rest.find(' ');
      map.emplace(rest.substr(0, blank), rest.substr(blank + 1, end - blank - 1));
      rest.remove_prefix(end + 1);
    }
    return map;
  }();
  const auto found = table.find(name);
  if (found == table.end()) return std::nullopt;
  std::u32string text;
  for (auto rest = found->second; !rest.empty();) {
    const auto end = std::min(rest.find(' '), rest.size());
    char32_t c = 0;
    for (const char digit : rest.substr(0, end)) {
      c = c * 16 + static_cast<char32_t>(digit <= '9' ? digit - '0' : digit - 'A' + 10);
    }
    text.push_back(c);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return text;
}

/// The character that &#...; or &#x...; stands for in HTML 5; nothing if it is not a number. A number that stands for a
/// semicolon is left alone, because the reference takes that as a sign of a number that ends early.
inline std::optional<std::u32string> html_number(std::string_view text) {
  const bool hexadecimal = text.starts_with('x') || text.starts_with('X');
  if (hexadecimal) text.remove_prefix(1);
  if (text.empty()) return std::nullopt;
  std::uint32_t number = 0;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    const char letter = static_cast<char>(c | 0x20);
    if (!digit && !(hexadecimal && letter >= 'a' && letter <= 'f')) return std::nullopt;
    const auto value = static_cast<std::uint32_t>(digit ? c - '0' : letter - 'a' + 10);
    number = std::min<std::uint32_t>(number * (hexadecimal ? 16 : 10) + value, 0x110000);
  }
  if (number == U';') return std::nullopt;
  if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number < 0xE000)) return U"\uFFFD";
  if (number >= 0x80 && number < 0xA0) return std::u32string(1, code_pages[0].upper[number - 0x80]);
  const bool no_character = (number < 0x20 && number != '\t' && number != '\n' && number != '\f' && number != '\r') ||
                            number == 0x7F || (number >= 0xFDD0 && number <= 0xFDEF) || (number & 0xFFFE) == 0xFFFE;
  return no_character ? std::u32string() : std::u32string(1, number);
}

/// Replaces HTML entities that end in a semicolon by the characters they stand for.
inline std::u32string unescape_html(std::u32string_view text) {
  constexpr std::size_t longest = 24;
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == U'&') {
      const bool number = text.substr(i + 1).starts_with(U'#');
      const auto begin = i + 1 + (number ? 1 : 0);
      std::string name;
      while (begin + name.size() < text.size() && text[begin + name.size()] < 0x80 &&
             (is_letter(text[begin + name.size()]) || is_number(text[begin + name.size()]))) {
        name += static_cast<char>(text[begin + name.size()]);
      }
      const auto end = begin + name.size();
      if (!name.empty() && name.size() <= longest && end < text.size() && text[end] == U';') {
        if (const auto found = number ? html_number(name) : html_entity(name)) {
          out += *found;
          i = end + 1;
          continue;
        }
      }
    }
    out.push_back(text[i++]);
  }
  return out;
}

/// Removes escape sequences that set terminal colours.
inline std::u32string remove_terminal_escapes(std::u32string_view text) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text.substr(i).starts_with(U"\x1B[")) {
      auto end = i + 2;
      while (end < text.size() && ((text[end] >= U'0' && text[end] <= U'9') || text[end] == U';')) ++end;
      if (end < text.size() && text[end] < 0x80 && is_letter(text[end])) {
        i = end + 1;
        continue;
      }
    }
    out.push_back(text[i++]);
  }
  return out;
}

/// The letters of a Latin ligature or digraph, or nothing.
inline std::u32string_view letters_of_ligature(char32_t c) {
  constexpr std::pair<char32_t, std::u32string_view> table[] = {
      {0x132, U"IJ"},       {0x133, U"ij"},  {0x149, U"\u02BCn"}, {0x1C4, U"D\u017D"}, {0x1C5, U"D\u017E"},
      {0x1C6, U"d\u017E"},  {0x1C7, U"LJ"},  {0x1C8, U"Lj"},      {0x1C9, U"lj"},      {0x1CA, U"NJ"},
      {0x1CB, U"Nj"},       {0x1CC, U"nj"},  {0x1F1, U"DZ"},      {0x1F2, U"Dz"},      {0x1F3, U"dz"},
      {0xFB00, U"ff"},      {0xFB01, U"fi"}, {0xFB02, U"fl"},     {0xFB03, U"ffi"},    {0xFB04, U"ffl"},
      {0xFB05, U"\u017Ft"}, {0xFB06, U"st"},
  };
  for (const auto& [ligature, parts] : table) {
    if (c == ligature) return parts;
  }
  return {};
}

inline bool is_superfluous_control(char32_t c) {
  return c <= 0x08 || c == 0x0B || (c >= 0x0E && c < 0x20) || c == 0x7F || (c >= 0x206A && c <= 0x206F) ||
         c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

/// Replaces single characters: ligatures by their letters, full-width and half-width forms by the usual ones, curly
/// quotes by straight ones. A ligature's letters are replaced in turn, because the reference applies these steps one
/// after another.
inline std::u32string usual_characters(std::u32string_view text) {
  std::u32string out;
  const auto add = [&out](char32_t c) {
    if (c == 0x3000) {
      c = U' ';
    } else if (c == 0xFFE3) {
      out.push_back(U' ');
      c = 0x304;
    } else if (c >= 0xFF01 && c < 0xFF01 + std::size(usual_width) && usual_width[c - 0xFF01] != 0) {
      c = usual_width[c - 0xFF01];
    }
    if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) c = U'\'';
    if (c >= 0x201C && c <= 0x201F) c = U'"';
    out.push_back(c);
  };
  for (const char32_t c : text) {
    const auto parts = letters_of_ligature(c);
    std::for_each(parts.begin(), parts.end(), add);
    if (parts.empty()) add(c);
  }
  return out;
}

/// Converts all kinds of line breaks to \n.
inline std::u32string unix_line_breaks(std::u32string_view text) {
  std::u32string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == U'\r' && text.substr(i + 1).starts_with(U'\n')) continue;
    const bool line_break = text[i] == U'\r' || text[i] == 0x85 || text[i] == 0x2028 || text[i] == 0x2029;
    out.push_back(line_break ? U'\n' : text[i]);
  }
  return out;
}

/// Repairs one line, repeating all steps until nothing changes.
inline std::u32string repair_line(std::u32string text, bool html) {
  for (;;) {
    auto next = html ? unescape_html(text) : text;
    next = mojibake::c1_as_windows(mojibake::undo(std::move(next)));
    next = remove_terminal_escapes(unix_line_breaks(usual_characters(next)));
    std::erase_if(next, is_superfluous_control);
    next = nfc(next);
    if (next == text) return text;
    text = std::move(next);
  }
}

/// Whether the capital sigma at `i` ends a word: it follows a cased letter and is not followed by one, ignoring marks
/// and other case-ignorable characters.
inline bool is_final_sigma(std::u32string_view text, std::size_t i) {
  std::size_t before = i;
  while (before > 0 && find_range(case_ignorable, text[before - 1])) --before;
  if (before == 0 || !find_range(cased, text[before - 1])) return false;
  std::size_t after = i + 1;
  while (after < text.size() && find_range(case_ignorable, text[after])) ++after;
  return after == text.size() || !find_range(cased, text[after]);
}

/// Lower case as in Python's `str.lower`: each code point by itself, except for a capital sigma at the end of a word.
inline std::u32string lower_with_final_sigma(const std::u32string& text) {
  constexpr char32_t sigma = 0x3A3;
  std::u32string out;
  std::size_t begin = 0;
  for (auto position = text.find(sigma); position != std::u32string::npos; position = text.find(sigma, begin)) {
    out += lower(std::u32string_view(text).substr(begin, position - begin));
    out.push_back(is_final_sigma(text, position) ? 0x3C2 : 0x3C3);
    begin = position + 1;
  }
  return out + lower(std::u32string_view(text).substr(begin));
}

}  // namespace detail

/// The result of `ftfy.fix_text` in version 6.1.1. Text decoded with one of nine wrong encodings is repaired,
/// repeatedly if necessary. HTML entities become characters, unless there is a "<" in the same or an earlier line.
/// Latin ligatures become letters, full-width forms the usual ones, curly quotes straight and line breaks \n. Control
/// characters, terminal colours and byte order marks are removed. The result is in Normalization Form C.
///
/// Unlike in ftfy, terminal colours are recognised only with ASCII digits, and lines of over a million characters are
/// not split.
inline std::u32string repair_text(std::u32string_view text) {
  std::u32string out;
  bool html = true;
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find(U'\n', begin), text.size() - 1) + 1;
    const auto line = text.substr(begin, end - begin);
    html = html && line.find(U'<') == std::u32string_view::npos;
    out += detail::repair_line(std::u32string(line), html);
    begin = end;
  }
  return out;
}

/// The same for UTF-8 text. Ill-formed bytes are first replaced by U+FFFD.
inline std::string repair_text(std::string_view text) {
  return detail::encode_utf8(repair_text(detail::decode_utf8(text, InvalidUtf8::replace)));
}

}  // namespace ip2p
