#pragma once

/// \file
/// A check that an option's value is a number within bounds.

#include <concepts>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "number.hpp"

namespace example {

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
