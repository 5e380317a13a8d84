#pragma once

/// \file
/// Python's pickles as trees of values: where Python would import a name, call it or set an object's state, the tree
/// has which name, arguments and state were written.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ip2p/io/printable.hpp"

namespace ip2p::detail {

/// What a value of a pickle is.
enum class PickleKind : std::uint8_t {
  none,
  boolean,
  integer,       ///< Whole number of at most 64 bits.
  long_integer,  ///< Longer whole number: `text` holds its bytes, lowest first, two's complement.
  real,
  text,
  bytes,
  list,
  tuple,
  dictionary,
  set,
  global,      ///< A name that Python would import.
  object,      ///< What Python would get by calling something.
  persistent,  ///< Something that is stored outside of the pickle; `arguments` is its description.
};

/// Place of a value in its `Pickle`.
using PickleRef = std::uint32_t;

/// No value.
inline constexpr PickleRef no_pickle_value = std::numeric_limits<PickleRef>::max();

/// One value of a pickle.
struct PickleValue {
  PickleKind kind = PickleKind::none;
  std::int64_t integer = 0;      ///< Of an integer; 0 or 1 of a boolean.
  double real = 0;               ///< Of a real number.
  std::string_view text;         ///< Of text, bytes and long integers; lives as long as the `Pickle`.
  std::vector<PickleRef> items;  ///< Of containers. Dictionaries, and objects that were filled as such: key, value, ...
  PickleRef callable = no_pickle_value;   ///< Of an object: what would be called. Of a global: the module's name.
  PickleRef arguments = no_pickle_value;  ///< Of an object: a tuple, as a rule. Of a global: the name in the module.
  PickleRef state = no_pickle_value;      ///< Of an object: what would be given to `__setstate__`.
};

class PickleMachine;

/// A pickle (protocols 0 to 5) as a tree of values, which may be shared and may even contain themselves. `parse_pickle`
/// (pickle_machine.hpp) reads one.
///
/// Values lie in one list and name each other by their places in it, so that neither depth nor sharing nor cycles cost
/// anything until someone walks along them.
class Pickle {
 public:
  /// The value at `place`, which is one of this pickle.
  const PickleValue& operator[](PickleRef place) const { return values_[place]; }

  /// All values, in the order in which they were made.
  [[nodiscard]] const std::vector<PickleValue>& values() const { return values_; }

  /// The value that Python's `load` would return.
  [[nodiscard]] PickleRef root() const { return root_; }

  /// One past the last byte of the pickle.
  [[nodiscard]] std::size_t end() const { return end_; }

  /// Whether `place` is the name `name` of the module `module`.
  [[nodiscard]] bool is_global(PickleRef place, std::string_view module, std::string_view name) const {
    if (place == no_pickle_value) return false;
    const auto& value = values_[place];
    return value.kind == PickleKind::global && value.callable != no_pickle_value &&
           values_[value.callable].text == module && values_[value.arguments].text == name;
  }

  /// Module and name of a global or of what an object would be made by, for messages, e.g. "torch.device".
  [[nodiscard]] std::string name_of(PickleRef place) const {
    if (place != no_pickle_value && values_[place].kind == PickleKind::object) place = values_[place].callable;
    // The old layout of torch.save describes a class together with its source.
    if (place != no_pickle_value && values_[place].kind == PickleKind::persistent &&
        values_[values_[place].arguments].items.size() > 1) {
      place = values_[values_[place].arguments].items[1];
    }
    if (place == no_pickle_value || values_[place].kind != PickleKind::global) return "something that is called";
    const auto& value = values_[place];
    if (value.callable == no_pickle_value) return "an extension";
    return printable(values_[value.callable].text) + "." + printable(values_[value.arguments].text);
  }

  /// Whether `place` is a dictionary, or one of the kinds of the module `collections`.
  [[nodiscard]] bool is_mapping(PickleRef place) const {
    if (place == no_pickle_value) return false;
    const auto& value = values_[place];
    return value.kind == PickleKind::dictionary ||
           (value.kind == PickleKind::object && (is_global(value.callable, "collections", "OrderedDict") ||
                                                 is_global(value.callable, "collections", "defaultdict")));
  }

  /// Keys and values of a mapping, in their order; nothing for other values.
  [[nodiscard]] std::vector<std::pair<PickleRef, PickleRef>> entries(PickleRef place) const {
    std::vector<std::pair<PickleRef, PickleRef>> result;
    if (!is_mapping(place)) return result;
    const auto& value = values_[place];
    // Python 2 wrote OrderedDict([[key, value], ...]).
    if (value.kind == PickleKind::object && is_global(value.callable, "collections", "OrderedDict") &&
        value.arguments != no_pickle_value && values_[value.arguments].items.size() == 1) {
      for (const auto pair : values_[values_[value.arguments].items[0]].items) {
        const auto& parts = values_[pair].items;
        if (parts.size() == 2) result.emplace_back(parts[0], parts[1]);
      }
    }
    for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) result.emplace_back(value.items[i], value.items[i + 1]);
    return result;
  }

  /// The value under the text `key` of a mapping, the last if there are several; `no_pickle_value` if there is none.
  [[nodiscard]] PickleRef find(PickleRef place, std::string_view key) const {
    PickleRef found = no_pickle_value;
    for (const auto& [name, value] : entries(place)) {
      if (values_[name].kind == PickleKind::text && values_[name].text == key) found = value;
    }
    return found;
  }

 private:
  friend class PickleMachine;

  std::shared_ptr<const std::string> bytes_;
  std::vector<PickleValue> values_;
  PickleRef root_ = no_pickle_value;
  std::size_t end_ = 0;
};

}  // namespace ip2p::detail
