#pragma once

/// \file
/// Reads the head of a request, which is its first line and its headers.

#include <cstddef>
#include <optional>
#include <string_view>

#include "http.hpp"

namespace studio {

/// A request's head, and what it says of the connection and of the body.
struct Head {
  Request request = {};  ///< Method, path and headers.
  bool http_1_0 = false;
  bool keeps_open = true;                  ///< The client may send another request.
  bool waits = false;                      ///< It waits for "100 Continue" before it sends the body.
  bool chunked = false;                    ///< The body comes in chunks.
  std::optional<std::size_t> length = {};  ///< Of the body; the largest number for one beyond it.

  [[nodiscard]] bool has_body() const { return chunked || length.value_or(0) > 0; }
};

/// Bytes of the longest head and of the longest target of a request.
constexpr std::size_t most_head_bytes = 32 << 10, most_target_bytes = 8 << 10;

/// Reads a head as RFC 9112 has it. Refused is also what others might read in another way, so that nothing between a
/// client and the service takes the end of a request elsewhere: lines that end in LF alone, folded headers, spaces
/// before a colon, a length that is given twice or beside chunks.
/// \param text up to its empty line, with it  \throws Fault
Head parse_head(std::string_view text);

}  // namespace studio
