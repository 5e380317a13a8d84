#pragma once

/// \file
/// Tar file headers (POSIX ustar), readable by WebDataset, Python's tarfile and tar.
///
/// Hand-written instead of using libarchive: all it takes is one 512-byte header, identical for the same name and size,
/// and random access needs offsets that a streaming library does not expose.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "ip2p/core/error.hpp"

namespace ip2p::detail {

inline constexpr std::uint64_t tar_block = 512;

/// A tar file ends with two blocks of zeros.
inline constexpr std::uint64_t tar_end = 2 * tar_block;

/// `size` rounded up to whole blocks.
constexpr std::uint64_t tar_padded(std::uint64_t size) { return (size + tar_block - 1) / tar_block * tar_block; }

/// Header of a world-readable regular file with owner 0 and time 0.
/// \param name 1 to 100 bytes  \param size below 8 GiB
inline std::array<char, tar_block> tar_header(std::string_view name, std::uint64_t size) {
  require(!name.empty() && name.size() <= 100, "tar entry '{}': expected a name of 1 to 100 bytes, found {}", name,
          name.size());
  require(size < (std::uint64_t{1} << 33), "tar entry '{}': expected less than 8 GiB, found {} bytes", name, size);
  std::array<char, tar_block> header{};
  const auto put = [&header](std::size_t offset, std::string_view text) {
    std::memcpy(header.data() + offset, text.data(), text.size());
  };
  put(0, name);
  put(100, "0000644");                     // mode
  put(108, "0000000");                     // owner
  put(116, "0000000");                     // group
  put(124, fmt::format("{:011o}", size));  // bytes
  put(136, "00000000000");                 // time
  put(148, "        ");                    // the checksum field counts as spaces in the sum
  put(156, "0");                           // type: regular file
  put(257, "ustar");                       // format
  put(263, "00");                          // format version
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<unsigned char>(c);
  put(148, fmt::format("{:06o}", sum));
  header[154] = '\0';
  return header;
}

}  // namespace ip2p::detail
