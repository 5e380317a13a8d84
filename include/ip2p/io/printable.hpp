#pragma once

/// \file
/// Names that come out of files, made fit for a message.

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace ip2p::detail {

/// `text` with control characters as \xNN and cut after 200 bytes: a name in a file of unknown origin may hold a NUL,
/// which would end the message, escape sequences for the terminal, or a hundred megabytes.
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
