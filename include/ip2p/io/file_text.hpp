#pragma once

/// \file
/// Reads a file into a string.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

namespace ip2p::detail {

/// All bytes of a file, or nothing if it cannot be read.
inline std::optional<std::string> file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.good()) return {};
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) return {};
  return text;
}

}  // namespace ip2p::detail
