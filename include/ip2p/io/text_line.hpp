#pragma once

/// \file
/// Tells lines of text from bytes of something else.

#include <algorithm>
#include <string_view>

#include "ip2p/core/error.hpp"
#include "ip2p/io/utf8.hpp"

namespace ip2p::detail {

/// Throws `Error` naming `where` unless the line of a file is text in UTF-8.
inline void require_text(std::string_view line, std::string_view where) {
  const auto zero = line.find('\0');
  const auto invalid = first_invalid_utf8(line);
  require(zero == line.npos && !invalid, "{}: expected text in UTF-8, found other bytes, the first at place {}", where,
          1 + std::min(zero, invalid.value_or(line.npos)));
}

}  // namespace ip2p::detail
