#pragma once

/// \file
/// Bytes as text, by RFC 4648, 4.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace studio {

inline std::string base64(std::span<const std::byte> bytes) {
  static constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<std::uint32_t>(bytes[i + k]) : 0);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += i + k <= bytes.size() ? letters[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

inline std::string base64(std::string_view bytes) { return base64(std::as_bytes(std::span(bytes))); }

}  // namespace studio
