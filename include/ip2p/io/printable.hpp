#pragma once

/// \file
/// Makes names read from files safe to show in a message.

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "ip2p/io/utf8.hpp"

namespace ip2p::detail {

/// `text` with control characters and what is not UTF-8 shown as \xNN, truncated to 200 bytes. A name in an untrusted
/// file may contain a NUL, which would cut the message short, or terminal escape sequences, or be a hundred megabytes
/// long.
inline std::string printable(std::string_view text) {
  constexpr std::size_t limit = 200;
  auto rest = text.substr(0, limit);
  const auto byte = [](char c) { return static_cast<unsigned char>(c); };
  if (text.size() > limit) {  // not amid a character
    for (int i = 0; i < 3 && (byte(text[rest.size()]) & 0xC0) == 0x80; ++i) rest.remove_suffix(1);
  }
  std::string result;
  for (auto valid = first_invalid_utf8(rest).value_or(rest.size()); !rest.empty();) {
    // Those of one byte, and U+0080 to U+009F.
    const bool of_two = valid > 1 && byte(rest[0]) == 0xC2 && byte(rest[1]) < 0xA0;
    const bool shown = valid > 0 && byte(rest[0]) >= 0x20 && byte(rest[0]) != 0x7F && !of_two;
    for (const char c : rest.substr(0, of_two ? 2 : 1)) {
      result += shown ? std::string(1, c) : fmt::format("\\x{:02x}", byte(c));
    }
    const bool invalid = valid == 0;
    rest.remove_prefix(of_two ? 2 : 1);
    valid = invalid ? first_invalid_utf8(rest).value_or(rest.size()) : valid - (of_two ? 2 : 1);
  }
  if (text.size() > limit) result += "...";
  return result;
}

}  // namespace ip2p::detail
