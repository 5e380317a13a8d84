#pragma once

/// \file
/// Whole numbers out of JSON that programs wrote, for readers that say themselves what is wrong with the file.

#include <cstddef>
#include <nlohmann/json.hpp>

#include "ip2p/io/json_field.hpp"

namespace ip2p::detail {

/// The whole number that `value` is. \throws nlohmann::json::exception for anything else, and beyond the type
template <class Integer>
Integer json_whole(const nlohmann::json& value) {
  if (const auto number = whole_number<Integer>(value)) return *number;
  throw NotWhole(json_text(value));
}

/// The whole numbers that a list holds; one that is longer is not read to its end. \throws nlohmann::json::exception
/// for anything else
template <class Integers>
Integers json_wholes(const nlohmann::json& values) {
  Integers result{};
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = json_whole<typename Integers::value_type>(values.at(i));
  }
  return result;
}

}  // namespace ip2p::detail
