#pragma once

/// \file
/// A check that an option's value is a number within bounds.

#include <charconv>
#include <concepts>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

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

/// From `least` to `most`, both included; whole numbers if the bounds are.
template <class Number>
requires std::integral<Number> || std::floating_point<Number> CLI::Validator range(Number least, Number most) {
  constexpr bool whole = std::integral<Number>;
  return CLI::Validator(
      [least, most](const std::string& text) {
        Number value{};
        if (parse_number(text, value) && value >= least && value <= most) return std::string();
        return fmt::format("expected a {}number from {} to {}, found '{}'{}", whole ? "whole " : "", least, most, text,
                           number_hint(text));
      },
      fmt::format("{} in [{} - {}]", whole ? "INT" : "NUMBER", least, most));
}

}  // namespace example
