#pragma once

/// \file
/// Unicode operations for CLIP's tokenizer: UTF-8, NFC, lower case and character classes.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/text/unicode_tables.hpp"

namespace ip2p {

/// What to do with bytes that are not UTF-8.
enum class InvalidUtf8 {
  replace,  ///< Replace each maximal ill-formed part by U+FFFD, as Python's `bytes.decode("utf-8", "replace")` does.
  error,    ///< Throw `Error` with the position of the first ill-formed byte.
};

namespace detail {

/// The range that contains `c` in a sorted table, or null.
template <class Range, std::size_t N>
const Range* find_range(const Range (&table)[N], char32_t c) {
  const auto* after = std::upper_bound(std::begin(table), std::end(table), c,
                                       [](char32_t value, const Range& range) { return value < range.first; });
  if (after == std::begin(table)) return nullptr;
  const auto* range = std::prev(after);
  return c <= range->last ? range : nullptr;
}

inline bool is_white_space(char32_t c) { return find_range(white_spaces, c) != nullptr; }
inline bool is_letter(char32_t c) {
  if (c < 0x80) return (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z');
  return find_range(letters, c) != nullptr;
}
inline bool is_number(char32_t c) {
  if (c < 0x80) return c >= U'0' && c <= U'9';
  return find_range(numbers, c) != nullptr;
}

/// Decodes UTF-8, handling ill-formed bytes as `policy` says. U+0000 is treated like any other character.
inline std::u32string decode_utf8(std::string_view text, InvalidUtf8 policy) {
  std::u32string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      out.push_back(lead);
      ++i;
      continue;
    }
    // Table 3-7 of the Unicode standard: only the second byte's bounds depend on the lead.
    const std::size_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                               : lead >= 0xE0 && lead <= 0xEF ? 3
                               : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                              : 1;
    const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    char32_t value = lead & (0xFFu >> (length + 1));
    std::size_t used = 1;
    while (used < length && i + used < text.size()) {
      const auto byte = static_cast<unsigned char>(text[i + used]);
      if (byte < (used == 1 ? low : 0x80) || byte > (used == 1 ? high : 0xBF)) break;
      value = (value << 6) | (byte & 0x3F);
      ++used;
    }
    if (length == 1 || used < length) {
      require(policy == InvalidUtf8::replace, "prompt: expected UTF-8, found byte 0x{:02X} at position {} of {}", lead,
              i, text.size());
      value = 0xFFFD;
    }
    out.push_back(value);
    i += used;
  }
  return out;
}

/// Appends the UTF-8 form of one code point.
inline void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

inline std::string encode_utf8(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) append_utf8(out, c);
  return out;
}

/// Converts each code point to lower case by itself (no final sigma rule), as the reference does.
inline std::u32string lower(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t c : text) {
    if (c == 0x130) {  // the only code point whose lower case is two code points: i and a dot above
      out += U"i\u0307";
    } else if (c < 0x80) {
      out.push_back(c >= U'A' && c <= U'Z' ? c + 32 : c);
    } else {
      const auto* range = find_range(lower_case, c);
      const bool upper = range != nullptr && (c - range->first) % static_cast<std::uint32_t>(range->stride) == 0;
      out.push_back(upper ? static_cast<char32_t>(static_cast<std::int64_t>(c) + range->delta) : c);
    }
  }
  return out;
}

inline std::uint8_t combining_class(char32_t c) {
  if (c < 0x300) return 0;
  const auto* range = find_range(marks, c);
  return range ? range->combining_class : std::uint8_t{0};
}

/// Constants for composing and decomposing Hangul syllables, named as in section 3.12 of the Unicode standard.
struct Hangul {
  static constexpr char32_t s_base = 0xAC00, l_base = 0x1100, v_base = 0x1161, t_base = 0x11A7;
  static constexpr char32_t l_count = 19, v_count = 21, t_count = 28, s_count = l_count * v_count * t_count;
};

/// Appends the full canonical decomposition of `c`.
inline void decompose(char32_t c, std::u32string& out) {
  if (c < 0xC0) {
    out.push_back(c);
    return;
  }
  if (c >= Hangul::s_base && c < Hangul::s_base + Hangul::s_count) {
    const char32_t index = c - Hangul::s_base;
    out.push_back(Hangul::l_base + index / (Hangul::v_count * Hangul::t_count));
    out.push_back(Hangul::v_base + index / Hangul::t_count % Hangul::v_count);
    if (index % Hangul::t_count) out.push_back(Hangul::t_base + index % Hangul::t_count);
    return;
  }
  const auto* pair = std::lower_bound(std::begin(pairs), std::end(pairs), c,
                                      [](const Pair& entry, char32_t value) { return entry.whole < value; });
  if (pair != std::end(pairs) && pair->whole == c) {
    decompose(pair->first, out);
    out.push_back(pair->second & 0x7FFFFFFFu);
    return;
  }
  const auto* one = std::lower_bound(std::begin(singletons), std::end(singletons), c,
                                     [](const Singleton& entry, char32_t value) { return entry.whole < value; });
  if (one != std::end(singletons) && one->whole == c) return decompose(one->part, out);
  out.push_back(c);
}

/// The code point that `first` and `second` compose to, or 0 if there is none.
inline char32_t compose(char32_t first, char32_t second) {
  if (first >= Hangul::l_base && first < Hangul::l_base + Hangul::l_count && second >= Hangul::v_base &&
      second < Hangul::v_base + Hangul::v_count) {
    return Hangul::s_base + ((first - Hangul::l_base) * Hangul::v_count + (second - Hangul::v_base)) * Hangul::t_count;
  }
  if (first >= Hangul::s_base && first < Hangul::s_base + Hangul::s_count &&
      (first - Hangul::s_base) % Hangul::t_count == 0 && second > Hangul::t_base &&
      second < Hangul::t_base + Hangul::t_count) {
    return first + (second - Hangul::t_base);
  }
  static const auto table = [] {
    std::unordered_map<std::uint64_t, char32_t> map;
    for (const Pair& pair : pairs) {
      if (!(pair.second >> 31)) map.emplace(std::uint64_t{pair.first} << 32 | pair.second, pair.whole);
    }
    return map;
  }();
  const auto found = table.find(std::uint64_t{first} << 32 | second);
  return found == table.end() ? 0 : found->second;
}

/// Normalization Form C, with the same Unicode version as the reference.
inline std::u32string nfc(std::u32string_view text) {
  if (std::all_of(text.begin(), text.end(), [](char32_t c) { return c < 0x300; })) return std::u32string(text);

  std::u32string parts;
  parts.reserve(text.size());
  for (const char32_t c : text) decompose(c, parts);

  std::vector<std::uint8_t> classes(parts.size());
  std::transform(parts.begin(), parts.end(), classes.begin(), combining_class);
  std::vector<std::pair<std::uint8_t, char32_t>> run;
  for (std::size_t i = 0; i < parts.size();) {
    std::size_t end = i;
    while (end < parts.size() && classes[end] != 0) ++end;
    if (end - i > 1) {  // canonical order: sort the marks between two starters by class, stably
      run.clear();
      for (std::size_t k = i; k < end; ++k) run.emplace_back(classes[k], parts[k]);
      std::stable_sort(run.begin(), run.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
      for (std::size_t k = i; k < end; ++k) std::tie(classes[k], parts[k]) = run[k - i];
    }
    i = std::max(end, i + 1);
  }

  std::u32string out;
  out.reserve(parts.size());
  constexpr std::size_t none = static_cast<std::size_t>(-1);
  std::size_t starter = none;   // Position in `out` of the last starter.
  std::uint8_t last_class = 0;  // Class of the last character appended after it.
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool adjacent = starter != none && starter + 1 == out.size();
    if (starter != none && (adjacent || last_class < classes[i])) {
      if (const char32_t whole = compose(out[starter], parts[i])) {
        out[starter] = whole;
        continue;
      }
    }
    if (classes[i] == 0) starter = out.size();
    last_class = classes[i];
    out.push_back(parts[i]);
  }
  return out;
}

}  // namespace detail
}  // namespace ip2p
