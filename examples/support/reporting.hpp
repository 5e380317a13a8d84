#pragma once

/// \file
/// What programs tell: progress and notes, which --quiet silences, and the result, which --json makes one line of JSON.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "ip2p/io/image_types.hpp"

namespace CLI {
class App;
}

namespace example {

/// Adds --quiet.
void add_quiet(CLI::App& app);

/// Adds --json, for a program that has one result and records it in `result()`.
void add_json(CLI::App& app);

/// Whether --quiet was given: neither progress nor notes are wanted.
bool quiet();

/// Whether --json was given.
bool json();

/// Prints "note: `text`" on standard error, unless --quiet was given.
void note(std::string_view text);

/// For programs whose result is a text: from here on, standard output is that result, which --quiet leaves as it is.
void result_follows();

/// Where standard output was when the program began, for what is not a text.
int standard_output();

/// What --json prints. Settings have the names of the options that would give them.
class Result {
  using List = std::vector<std::string>;
  using Numbers = std::vector<double>;
  using Entry = std::variant<bool, std::int64_t, double, std::string, List, Numbers>;

 public:
  /// A setting in effect. Nothing is recorded for an empty text or an unset value.
  template <class Value>
  void setting(const std::string& name, const Value& value) {
    if constexpr (std::is_same_v<Value, bool>) {
      set(name, Entry(value));
    } else if constexpr (std::is_integral_v<Value>) {
      set(name, Entry(static_cast<std::int64_t>(value)));
    } else if constexpr (std::is_floating_point_v<Value>) {
      set(name, Entry(static_cast<double>(value)));
    } else if constexpr (std::is_same_v<Value, List> || std::is_same_v<Value, Numbers>) {
      if (!value.empty()) set(name, Entry(value));
    } else if (const std::string text(value); !text.empty()) {
      set(name, Entry(text));
    }
  }
  template <class Value>
  void setting(const std::string& name, const std::optional<Value>& value) {
    if (value) setting(name, *value);
  }

  /// Time that a part of the run took; the whole is recorded by itself.
  void seconds(const std::string& part, double seconds);

  /// A file that was written.
  void wrote(const std::filesystem::path& path);

  /// A picture that was written.
  void wrote(const std::filesystem::path& path, const ip2p::Image& picture);

 private:
  void set(const std::string& name, const Entry& value);
};

/// Of this run.
Result& result();

/// Sends standard output where --quiet and --json want it. Called once, after parsing.
void begin_reporting();

/// Prints the line of --json, if asked for, after a run that succeeded. \param program its name
void finish_reporting(std::string_view program);

}  // namespace example
