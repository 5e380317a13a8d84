#pragma once

/// \file
/// Copies small files so that the copy survives a power failure.

#include <cstddef>
#include <filesystem>
#include <span>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"
#include "ip2p/io/file_text.hpp"

namespace ip2p {

/// Copies a file through memory and replaces any that is there. \throws Error naming the file that cannot be read or
/// written
inline void copy_file_atomically(const std::filesystem::path& from, const std::filesystem::path& to) {
  const auto content = detail::file_text(from);
  require(content.has_value(), "cannot read '{}': there is no such file", from.string());
  write_file_atomically(to, std::as_bytes(std::span(*content)));
}

}  // namespace ip2p
