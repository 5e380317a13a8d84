#pragma once

/// \file
/// A check that an option names a text, before anything in the file is read as one.

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "ip2p/core/error.hpp"
#include "ip2p/io/file_text.hpp"
#include "ip2p/io/utf8.hpp"

namespace example {

/// Empty for a file of text in UTF-8, and for one that cannot be read, which its reader says; otherwise the message.
inline std::string text_file(const std::string& path) {
  std::optional<std::string> text;
  try {
    text = ip2p::detail::file_text(path);
  } catch (const ip2p::Error&) {
    return {};
  }
  if (!text) return {};
  const auto wrong = std::min(text->find('\0'), ip2p::detail::first_invalid_utf8(*text).value_or(text->npos));
  if (wrong == text->npos) return {};
  const auto line = 1 + std::ranges::count(std::string_view(*text).substr(0, wrong), '\n');
  return fmt::format("{}:{}: expected text in UTF-8, found other bytes", path, line);
}

}  // namespace example
