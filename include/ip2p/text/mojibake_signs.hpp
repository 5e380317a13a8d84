#pragma once

/// \file
/// Detects text that was decoded with the wrong encoding ("cafÃ©"), as ftfy 6.1.1 does.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "ip2p/text/text_repair_tables.hpp"
#include "ip2p/text/unicode.hpp"

namespace ip2p::detail::mojibake {

/// Character classes, as bits: those in `mojibake_classes`, then those that need no table.
enum CharacterClass : std::uint32_t {
  common = 1u << 0,
  c1_control = 1u << 1,
  bad = 1u << 2,
  currency = 1u << 3,
  opening = 1u << 4,
  closing = 1u << 5,
  numeric = 1u << 6,
  kaomoji = 1u << 7,
  upper_accented = 1u << 8,
  lower_accented = 1u << 9,
  upper_common = 1u << 10,
  lower_common = 1u << 11,
  box = 1u << 12,
  first_of_2 = 1u << 13,
  first_of_3 = 1u << 14,
  first_of_4 = 1u << 15,
  continuation = 1u << 16,
  strict_continuation = 1u << 17,
  upper_latin = 1u << 18,  ///< A-Z
  lower_latin = 1u << 19,  ///< a-z
  not_latin = 1u << 20,    ///< neither
  blank = 1u << 21,        ///< white space of Python's regular expressions
  word = 1u << 22,         ///< letters, numbers and _
  not_new_line = 1u << 23,
};

inline std::uint32_t character_classes(char32_t c) {
  const auto* range = find_range(mojibake_classes, c);
  std::uint32_t classes = range ? range->classes : 0;
  const bool upper = c >= U'A' && c <= U'Z';
  const bool lower = c >= U'a' && c <= U'z';
  classes |= upper ? upper_latin : lower ? lower_latin : not_latin;
  if (is_white_space(c) || (c >= 0x1C && c <= 0x1F)) classes |= blank;
  if (is_letter(c) || is_number(c) || c == U'_') classes |= word;
  if (c != U'\n') classes |= not_new_line;
  return classes;
}

/// One position of a pattern: a character in any of the classes, or in the list.
struct CharacterSet {
  std::uint32_t classes = 0;
  std::u32string_view list = {};
};

/// Sequences that are unlikely in normal text but likely in text decoded with the wrong encoding. ftfy treats a text as
/// damaged if it contains any of them.
inline const std::vector<std::vector<CharacterSet>>& unlikely_sequences() {
  constexpr std::uint32_t accented = lower_accented | upper_accented;
  constexpr std::uint32_t latin = lower_latin | upper_latin;
  constexpr std::uint32_t symbols = box | opening | closing | currency | numeric;
  constexpr std::u32string_view arabic_second = U"\u0178\u0160\u00AE\u00B0\u00B5\u00BB";
  constexpr std::uint32_t arabic_classes = common | currency | bad | numeric | opening;
  constexpr std::u32string_view cyrillic = U"\u0412\u0413\u0420\u0421", greek = U"\u0392\u0393\u039E\u039F";
  constexpr std::uint32_t upper_half = c1_control | bad | opening | closing | currency;
  constexpr std::u32string_view a_hats = U"\u00C2\u00C3";
  static const std::vector<std::vector<CharacterSet>> sequences{
      {{c1_control}},
      {{bad | accented | symbols}, {bad}},
      {{latin}, {lower_common | upper_common}, {bad}},
      {{bad}, {accented | symbols}},
      {{lower_accented | lower_common | box | closing | currency | numeric}, {upper_accented}},
      {{box | closing | currency | numeric}, {lower_accented}},
      {{lower_accented | box | closing}, {currency}},
      {{blank}, {upper_accented}, {currency}},
      {{upper_accented | box}, {numeric}},
      {{accented | box | currency | closing}, {opening}, {numeric}},
      {{accented | currency | numeric | box}, {closing}, {opening}},
      {{currency | numeric | box}, {opening}},
      {{lower_latin}, {upper_accented}, {opening | currency}},
      {{box}, {kaomoji}},
      {{accented | currency | numeric | opening | closing}, {box}},
      {{box}, {closing}},
      {{accented}, {closing}, {word}},
      // The ligature oe before anything but a plain letter.
      {{0, U"\u0152\u0153"}, {not_latin}},
      // Windows-1252, in pairs.
      {{0, U"\u00C2\u00C3\u00CE\u00D0"},
       {opening | closing,
        U"\u20AC\u0160\u0161\u00A2\u00A3\u0178\u017E\u00A0\u00AD\u00AE\u00A9\u00B0\u00B7\u00BB\u2013\u2014\u00B4"}},
      {{0, U"\u00D7"}, {0, U"\u00B2\u00B3"}},
      // Arabic in Windows-1252: these characters are common, so it takes four of them.
      {{0, U"\u00D8\u00D9"}, {arabic_classes, arabic_second}, {0, U"\u00D8\u00D9"}, {arabic_classes, arabic_second}},
      // The beginning of South Asian letters in Windows-1252.
      {{0, U"\u00E0"}, {0, U"\u00B2\u00B5\u00B9\u00BC\u00BD\u00BE"}},
      // MacRoman.
      {{0, U"\u221A"}, {0, U"\u00B1\u2202\u2020\u2260\u00AE\u2122\u00B4\u2264\u2265\u00A5\u00B5\u00F8"}},
      {{0, U"\u2248"}, {0, U"\u00B0\u00A2"}},
      {{0, U"\u201A"},
       {0, U"\u00C4"},
       {0, U"\u00EC\u00EE\u00EF\u00F2\u00F4\u00FA\u00F9\u00FB\u2020\u00B0\u00A2\u03C0"}},
      {{0, U"\u201A"}, {0, U"\u00E2\u00F3"}, {0, U"\u00E0\u00E4\u00B0\u00EA"}},
      // Windows-1251: punctuation, Cyrillic letters, and Latin-1 over Windows-1252.
      {{0, U"\u0432"}, {0, U"\u0402"}},
      {{0, cyrillic}, {upper_half, U"\u00B0\u00B5"}, {0, cyrillic}},
      {{0, U"\u0413"}, {0, U"\u045E"}, {0, U"\u0412"}, {0, U"\u0402"}, {0, U"\u0412"}, {not_new_line}, {latin, U" "}},
      // a-grave, a-acute and the no-break space in Windows-1252.
      {{0, U"\u00C3"}, {0, U"\u00A0\u00A1"}},
      {{lower_latin}, {0, a_hats}, {0, U" "}},
      {{lower_latin}, {blank}, {0, a_hats}, {0, U" "}},
      {{lower_latin | closing, U".,?!"}, {0, U"\u00C2"}, {opening | closing, U" "}},
      // Windows-1253: punctuation and Greek letters.
      {{0, U"\u03B2"}, {0, U"\u20AC"}, {0, U"\u2122\u00A0\u0386\u00AD\u00AE\u00B0"}},
      {{0, greek}, {upper_half, U"\u00B0"}, {0, greek}},
  };
  return sequences;
}

/// Whether the text contains a sequence that indicates a wrong encoding.
inline bool is_mojibake(std::u32string_view text) {
  if (text.size() >= 2 && (text[0] == 0xC2 || text[0] == 0xC3) && text[1] == U' ') return true;
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x80; })) return false;
  std::vector<std::uint32_t> classes(text.size());
  std::transform(text.begin(), text.end(), classes.begin(), character_classes);
  for (const auto& sequence : unlikely_sequences()) {
    for (std::size_t i = 0; i + sequence.size() <= text.size(); ++i) {
      std::size_t k = 0;
      while (k < sequence.size() && ((classes[i + k] & sequence[k].classes) != 0 ||
                                     sequence[k].list.find(text[i + k]) != std::u32string_view::npos)) {
        ++k;
      }
      if (k == sequence.size()) return true;
    }
  }
  return false;
}

}  // namespace ip2p::detail::mojibake
