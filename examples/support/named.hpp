#pragma once

/// \file
/// Values that say first what they are for: "NAME=VALUE".

#include <string>

namespace example {

/// The name that "NAME=VALUE" begins with: letters, digits and -_., because names become part of file names. Empty
/// where there is none.
inline std::string leading_name(const std::string& text) {
  const auto end = text.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.");
  return end != text.npos && text[end] == '=' ? text.substr(0, end) : std::string();
}

}  // namespace example
