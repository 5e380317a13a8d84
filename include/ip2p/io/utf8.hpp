#pragma once

/// \file
/// Whether text from a file is UTF-8.

#include <cstddef>
#include <optional>
#include <string_view>

namespace ip2p::detail {

/// Offset of the first byte that is not well-formed UTF-8 (overlong forms and surrogates included), if there is one.
inline std::optional<std::size_t> first_invalid_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned lead = byte(i);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xC2 || lead > 0xF4 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (length == 0 || length > text.size() - i) return i;
    for (std::size_t k = 1; k < length; ++k) {
      const unsigned low = k == 1 && lead == 0xE0 ? 0xA0 : k == 1 && lead == 0xF0 ? 0x90 : 0x80;
      const unsigned high = k == 1 && lead == 0xED ? 0x9F : k == 1 && lead == 0xF4 ? 0x8F : 0xBF;
      if (byte(i + k) < low || byte(i + k) > high) return i;
    }
    i += length;
  }
  return std::nullopt;
}

}  // namespace ip2p::detail
