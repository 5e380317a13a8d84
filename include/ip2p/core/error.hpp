#pragma once

/// \file
/// The library's exception types.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace ip2p {

/// Thrown for every failure that a caller can cause or do something about.
///
/// The message is one sentence naming the file, tensor or argument, what was expected and what was found.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Thrown when a run is stopped through its `std::stop_token`. It does not mean that the input was wrong.
class Cancelled : public Error {
 public:
  using Error::Error;
};

/// Thrown when the machine or a device runs out of memory; the message says what would need less.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

/// Thrown when the input is usable, but leaves open something that the caller has to decide.
///
/// `what()` names the field of the options struct that decides it. A program whose users know that field by another
/// name, such as a command-line option, can build its own message from the parts.
class SettingNeeded : public Error {
 public:
  /// \param problem what was expected and found  \param setting the field, with its value if only one helps: "variant",
  /// "prefer_ema = false"  \param purpose what it is set for: "to use the raw weights"
  SettingNeeded(std::string problem, std::string setting, std::string purpose)
      : Error(fmt::format("{}; set '{}' {}", problem, setting, purpose)),
        problem_(std::move(problem)),
        setting_(std::move(setting)),
        purpose_(std::move(purpose)) {}

  [[nodiscard]] const std::string& problem() const { return problem_; }  ///< What was expected and found.
  [[nodiscard]] const std::string& setting() const { return setting_; }  ///< The field, e.g. "prefer_ema = false".
  [[nodiscard]] const std::string& purpose() const { return purpose_; }  ///< What it is set for, e.g. "to choose one".

 private:
  std::string problem_, setting_, purpose_;
};

namespace detail {

/// Throws `Error`. Not a template, so that all a message costs its caller in code is passing the arguments.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_formatted(fmt::string_view format, fmt::format_args args) {
  throw Error(fmt::vformat(format, args));
}

}  // namespace detail

/// Throws `Error` with a formatted message.
template <class... Args>
[[noreturn]] void throw_error(fmt::format_string<Args...> format, Args&&... args) {
  detail::throw_formatted(format, fmt::make_format_args(args...));
}

/// Throws `Error` with a formatted message unless `condition` holds; the message is only built on failure.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]] {
    detail::throw_formatted(format, fmt::make_format_args(args...));
  }
}

}  // namespace ip2p
