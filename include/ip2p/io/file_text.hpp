#pragma once

/// \file
/// Reads a file into a string, and lists a folder.

#include <array>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <ios>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "ip2p/core/error.hpp"
#include "ip2p/io/atomic_file.hpp"

namespace ip2p::detail {

/// \throws Error when `file` ended because reading failed, which looks like its end otherwise
inline void require_read(const std::istream& file, const std::filesystem::path& path) {
  require(!file.bad(), "cannot read '{}': {}", path.string(), errno_text(errno));
}

/// All bytes that are left of a file. \throws Error when reading failed
inline std::string text_left(std::istream& file, const std::filesystem::path& path) {
  std::string text;
  std::array<char, 1 << 14> part;
  while (file.good()) {
    file.read(part.data(), part.size());
    text.append(part.data(), static_cast<std::size_t>(file.gcount()));
  }
  require_read(file, path);
  return text;
}

/// All bytes of a file, or nothing if there is none. \throws Error when it is there and cannot be read
inline std::optional<std::string> file_text(const std::filesystem::path& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file.good()) {
    require(errno == ENOENT || errno == ENOTDIR || errno == 0, "cannot open '{}': {}", path.string(),
            errno_text(errno));
    return {};
  }
  return text_left(file, path);
}

/// What is directly in a folder, in any order. \throws Error when it cannot be listed
inline std::vector<std::filesystem::directory_entry> folder_entries(const std::filesystem::path& folder) {
  std::vector<std::filesystem::directory_entry> entries;
  std::error_code problem;
  std::filesystem::directory_iterator entry(folder, problem);
  for (const std::filesystem::directory_iterator end; !problem && entry != end; entry.increment(problem)) {
    entries.push_back(*entry);
  }
  require(!problem, "cannot list '{}': {}", folder.string(), problem.message());
  return entries;
}

}  // namespace ip2p::detail
