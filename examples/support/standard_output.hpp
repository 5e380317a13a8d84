#pragma once

/// \file
/// A picture on standard output.

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <span>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "reporting.hpp"

namespace example {

/// Keeps standard output for one file: from here on, what the program prints goes to standard error.
class StandardOutput {
 public:
  /// \throws Error if standard output is a terminal
  StandardOutput() : file_(dup(standard_output())) {
    ip2p::require(file_ >= 0, "standard output: cannot write: {}", ip2p::detail::errno_text(errno));
    ip2p::require(isatty(file_) == 0,
                  "--out -: expected standard output to lead to a file or a program, found a terminal");
    std::fflush(stdout);
    if (!quiet()) dup2(STDERR_FILENO, STDOUT_FILENO);
  }
  StandardOutput(const StandardOutput&) = delete;
  StandardOutput& operator=(const StandardOutput&) = delete;
  ~StandardOutput() { close(file_); }

  /// \throws Error if not all could be written
  void write(std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const auto written = ::write(file_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      ip2p::require(written > 0, "standard output: writing failed: {}", ip2p::detail::errno_text(errno));
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

 private:
  int file_;
};

}  // namespace example
