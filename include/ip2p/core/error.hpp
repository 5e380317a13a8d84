#pragma once

/// \file
/// The library's exception types.

#include <fmt/format.h>

#include <stdexcept>
#include <string>

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

/// Thrown when memory runs out, of the machine or of a device; the message says what takes less.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

namespace detail {

/// Throws `Error`. Not a template, so that a message costs the code of its caller no more than its arguments.
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
