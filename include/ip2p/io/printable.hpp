#pragma once

/// \file
/// Makes names read from files safe to show in a message.

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace ip2p::detail {

/// `text` with control characters shown as \xNN, truncated to 200 bytes. A name in an untrusted file may contain a NUL,
/// which would cut the message short, or terminal escape sequences, or be a hundred megabytes long.
inline std::string printable(std::string_view text) {
  constexpr std::size_t limit = 200;
  std::string result;
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  if (text.size() > limit) result += "...";
  return result;
}

}  // namespace ip2p::detail
