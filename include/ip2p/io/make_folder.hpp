#pragma once

/// \file
/// Folders that are created where they are missing.

#include <filesystem>
#include <system_error>

#include "ip2p/core/error.hpp"

namespace ip2p {

/// Creates a folder, with those above it, unless it exists. \param folder empty for the current one, which always
/// exists \throws Error naming it, and what the system says
inline void make_folder(const std::filesystem::path& folder) {
  if (folder.empty()) return;
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  require(!problem, "cannot create the folder '{}': {}", folder.string(), problem.message());
}

}  // namespace ip2p
