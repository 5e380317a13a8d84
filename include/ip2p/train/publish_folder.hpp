#pragma once

/// \file
/// Moves a checkpoint into place, or removes it, in one step.

#include <fcntl.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "ip2p/io/atomic_file.hpp"

namespace ip2p::detail {

/// Removes a checkpoint. It is renamed first, so that a kill cannot leave half of one under its name.
inline void remove_folder(const std::filesystem::path& path) {
  const auto temporary = std::filesystem::path(path.string() + ".tmp");
  std::error_code problem;
  std::filesystem::rename(path, temporary, problem);
  std::filesystem::remove_all(problem ? path : temporary, problem);
}

/// Moves a finished checkpoint into place. If there is one of the same step, both are exchanged, and the old one is
/// removed.
inline void publish_folder(const std::filesystem::path& temporary, const std::filesystem::path& target) {
  namespace fs = std::filesystem;
  if (!fs::exists(target)) {
    fs::rename(temporary, target);
  } else if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
  } else {  // not every file system can exchange
    remove_folder(target);
    fs::rename(temporary, target);
  }
  sync_folder(target.parent_path());
}

}  // namespace ip2p::detail
