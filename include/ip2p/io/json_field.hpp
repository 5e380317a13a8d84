#pragma once

/// \file
/// Reads typed values out of a JSON object, so that a wrong one is refused in a sentence with its key.

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ip2p/core/error.hpp"
#include "ip2p/io/utf8.hpp"

namespace ip2p::detail {

/// A JSON value for messages, cut short.
inline std::string json_text(const nlohmann::json& value) {
  constexpr std::size_t limit = 60;
  auto text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > limit) text = text.substr(0, limit) + "...";
  return text;
}

/// How deeply arrays and objects may be nested in a text from any source. Code that copies, compares and writes JSON
/// recurses once per level, so a text of nothing but brackets would exhaust the stack.
inline constexpr std::size_t deepest_json = 500;

/// A JSON text is nested deeper than `deepest_json`.
class DeepJson : public nlohmann::json::exception {
 public:
  explicit DeepJson(std::size_t place) : exception(0, "JSON is nested too deep"), byte(place) {}
  std::size_t byte;  ///< The place of the bracket, from 1.
};

/// A JSON text is not UTF-8.
class JsonEncoding : public nlohmann::json::exception {
 public:
  explicit JsonEncoding(std::size_t place) : exception(0, "JSON is not UTF-8"), byte(place) {}
  std::size_t byte;  ///< The place of the first byte that is wrong, from 1.
};

/// A JSON value is not the whole number that it should be.
class NotWhole : public nlohmann::json::exception {
 public:
  explicit NotWhole(std::string text)
      : exception(0, ("expected a whole number, found " + text).c_str()), found(std::move(text)) {}
  std::string found;  ///< The value, cut short.
};

/// The place, from 1, of the bracket with which `text` is nested deeper than `deepest_json`; 0 if there is none.
inline std::size_t deep_json_place(std::string_view text) {
  std::size_t depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i) i += text[i] == '\\' ? 1 : 0;
    } else if (c == '[' || c == '{') {
      if (++depth > deepest_json) return i + 1;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return 0;
}

/// Parses a text from any source. \throws nlohmann::json::exception, which `json_fault` describes
inline nlohmann::json parse_json(std::string_view text) {
  if (const auto place = deep_json_place(text); place != 0) throw DeepJson(place);
  if (const auto place = first_invalid_utf8(text)) throw JsonEncoding(*place + 1);
  return nlohmann::json::parse(text);
}

/// The same; a discarded value (`is_discarded`) for a text that is no JSON.
inline nlohmann::json json_or_discarded(std::string_view text) {
  if (deep_json_place(text) != 0) return nlohmann::json::value_t::discarded;
  return nlohmann::json::parse(text, nullptr, false);
}

/// What is wrong with a JSON text, in words of our own.
inline std::string json_fault(const nlohmann::json::exception& error) {
  if (const auto* deep = dynamic_cast<const DeepJson*>(&error); deep != nullptr) {
    return fmt::format("more than {} levels of nesting at byte {}", deepest_json, deep->byte);
  }
  if (const auto* encoding = dynamic_cast<const JsonEncoding*>(&error); encoding != nullptr) {
    return fmt::format("text that is not UTF-8 at byte {}", encoding->byte);
  }
  if (const auto* number = dynamic_cast<const NotWhole*>(&error); number != nullptr) {
    return fmt::format("{}, expected a whole number", number->found);
  }
  const auto* syntax = dynamic_cast<const nlohmann::json::parse_error*>(&error);
  if (syntax == nullptr) return "a value of another type than expected";
  return fmt::format("a syntax error at byte {}", syntax->byte);
}

/// The whole number that a JSON value is, or nothing. nlohmann's own conversion takes any number, even one beyond the
/// type.
template <class Integer>
std::optional<Integer> whole_number(const nlohmann::json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (std::in_range<Integer>(number)) return static_cast<Integer>(number);
  } else if (value.is_number_integer()) {
    const auto number = value.get<std::int64_t>();
    if (std::in_range<Integer>(number)) return static_cast<Integer>(number);
  }
  return {};
}

/// Throws `Error` unless `json` is an object. \param model whose config.json it is
inline void require_config(const nlohmann::json& json, std::string_view model, std::string_view where) {
  require(json.is_object(), "{}: expected the config.json of {}, found {}", where, model, json_text(json));
}

/// Sets `value` to json[key] if the key is present and not null. Throws `Error` if it has the wrong type; a list must
/// not be empty. \param value bool, integer, floating-point number, string or vector of numbers or strings
template <class Value>
void read_field(const nlohmann::json& json, const char* key, Value& value, std::string_view where) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return;
  bool fits = false;
  std::string_view expected;
  if constexpr (std::is_same_v<Value, bool>) {
    fits = found->is_boolean();
    expected = "true or false";
  } else if constexpr (std::is_integral_v<Value>) {
    fits = whole_number<Value>(*found).has_value();
    expected = found->is_number_integer() ? "a whole number within its range" : "a whole number";
  } else if constexpr (std::is_floating_point_v<Value>) {
    fits = found->is_number();
    expected = "a number";
  } else if constexpr (std::is_same_v<Value, std::string>) {
    fits = found->is_string();
    expected = "a string";
  } else {
    using Entry = typename Value::value_type;
    constexpr bool text = std::is_same_v<Entry, std::string>;
    constexpr bool whole = std::is_integral_v<Entry>;
    fits = found->is_array() && !found->empty();
    for (const auto& entry : *found) {
      if constexpr (whole) {
        fits = fits && whole_number<Entry>(entry).has_value();
      } else {
        fits = fits && (text ? entry.is_string() : entry.is_number());
      }
    }
    expected = text ? "a list of strings" : whole ? "a list of whole numbers" : "a list of numbers";
  }
  require(fits, "{}: {}: expected {}, found {}", where, key, expected, json_text(*found));
  value = found->template get<Value>();
}

/// As `read_field`, and accepts a list of equal values in place of one, as diffusers does.
template <class Value>
void read_equal_field(const nlohmann::json& json, const char* key, Value& value, std::string_view where) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_array() || found->empty()) return read_field(json, key, value, where);
  for (const auto& entry : *found) {
    require(entry == found->front(),
            "{}: {}: expected one value, or a list of equal ones, found {}, which is not supported", where, key,
            json_text(*found));
  }
  read_field(nlohmann::json{{key, found->front()}}, key, value, where);
}

/// As `read_field`, and throws `Error` as well if the key is absent or null.
template <class Value>
void need_field(const nlohmann::json& json, const char* key, Value& value, std::string_view where) {
  const auto found = json.find(key);
  require(found != json.end() && !found->is_null(), "{}: {}: expected a value, found none", where, key);
  read_field(json, key, value, where);
}

/// Throws `Error` unless json[key] is `expected`, absent or null.
template <class Value>
void require_field(const nlohmann::json& json, const char* key, const Value& expected, std::string_view where) {
  Value found = expected;
  read_field(json, key, found, where);
  require(found == expected, "{}: {}: expected {}, found {}, which is not supported", where, key, expected, found);
}

/// Throws `Error` for more layers than any model has. Layers take memory before it is noticed that the file has no
/// weights for them.
inline void require_layers(std::int64_t layers, const char* key, std::string_view where) {
  require(layers >= 0 && layers <= 1000, "{}: {}: expected at most 1000, found {}", where, key, layers);
}

/// Throws `Error` for more values a pixel or token than any model has: products of such widths would overflow.
inline void require_width(std::int64_t width, const char* key, std::string_view where) {
  require(width <= 1'000'000, "{}: {}: expected at most 1000000, found {}", where, key, width);
}

}  // namespace ip2p::detail
