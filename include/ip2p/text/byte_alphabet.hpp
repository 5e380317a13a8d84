#pragma once

/// \file
/// GPT-2's byte alphabet: byte-level vocabularies write each byte as a printable character.

#include <array>
#include <cstdint>

namespace ip2p::detail {

/// The character for `byte`: printable Latin-1 maps to itself, the other 68 bytes map to U+0100 onwards.
inline char32_t character_of_byte(unsigned byte) {
  const auto printable = [](unsigned b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD); };
  if (printable(byte)) return byte;
  char32_t index = 0;
  for (unsigned b = 0; b < byte; ++b) index += printable(b) ? 0 : 1;
  return 0x100 + index;
}

/// The byte that `c` stands for, or -1 for a character outside the alphabet.
inline int byte_of_character(char32_t c) {
  static const auto table = [] {
    std::array<int, 0x144> bytes;
    bytes.fill(-1);
    for (unsigned byte = 0; byte < 256; ++byte) bytes[character_of_byte(byte)] = static_cast<int>(byte);
    return bytes;
  }();
  return c < table.size() ? table[c] : -1;
}

}  // namespace ip2p::detail
