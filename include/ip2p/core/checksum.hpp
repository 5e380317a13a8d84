#pragma once

/// \file
/// FNV-1a hash, to detect accidental changes to data. Not cryptographic: it does not protect against tampering.

#include <cstdint>
#include <string>
#include <string_view>

#include "ip2p/core/error.hpp"

namespace ip2p::detail {

inline constexpr std::uint64_t fnv_start = 0xcbf29ce484222325u;

/// Mixes one more word into `hash`.
constexpr std::uint64_t fnv_word(std::uint64_t hash, std::uint64_t word) { return (hash ^ word) * 0x100000001b3u; }

/// Mixes the bytes of `text` into `hash`, one word per byte.
constexpr std::uint64_t fnv(std::string_view text, std::uint64_t hash = fnv_start) {
  for (const char byte : text) hash = fnv_word(hash, static_cast<unsigned char>(byte));
  return hash;
}

/// A hash as 16 hex digits.
inline std::string hash_text(std::uint64_t hash) { return fmt::format("{:016x}", hash); }

/// The hash of a text's bytes as 16 hex digits.
inline std::string text_checksum(std::string_view text) { return hash_text(fnv(text)); }

}  // namespace ip2p::detail
