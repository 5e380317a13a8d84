#pragma once

/// \file
/// ASCII letters, whatever the locale.

#include <algorithm>
#include <string>
#include <string_view>

namespace ip2p::detail {

/// An ASCII letter in lower case; other bytes stay as they are.
constexpr char lower_ascii(char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c); }

/// The same for all letters of a text, such as a file name's extension or a header's name.
inline std::string lower_ascii(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) { return lower_ascii(c); });
  return lower;
}

}  // namespace ip2p::detail
