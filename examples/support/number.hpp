#pragma once

/// \file
/// Numbers as options, settings and axes of a grid spell them.

#include <charconv>
#include <string>
#include <system_error>

namespace example {

/// The number that all of `text` spells, as C++ and every other program write it: with a point.
template <class Number>
bool parse_number(const std::string& text, Number& value) {
  const char* first = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, problem] = std::from_chars(first, text.data() + text.size(), value);
  return problem == std::errc() && end == text.data() + text.size() && !text.empty();
}

/// What a message adds after a number that was written with a comma, or as a size.
inline std::string number_hint(const std::string& text) {
  if (text.find(',') != std::string::npos) return " (numbers are written with a point)";
  if (text.find('x') != std::string::npos && text.front() != '0') return " (one number, not a size of two)";
  return {};
}

}  // namespace example
